//! Time ranges: what is asked about.
//!
//! A [`Window`] is half-open, `[from, to)`, and made of whole minutes. Edges older than the minutes kept are widened to
//! whole hours; that is done by the statement that reads the rollups, since only its snapshot knows what is kept.

use std::str::FromStr;

use chrono::{DateTime, DurationRound, NaiveDate, TimeDelta, Utc};

use super::record::AcceptedTimes;
use super::zone::Zone;

/// The longest window: as long as hours are kept by default.
const LONGEST: TimeDelta = TimeDelta::days(400);

/// What 400 days may be longer by, where clocks are put back once more than forward.
const CLOCKS_PUT_BACK: TimeDelta = TimeDelta::hours(1);

/// Why a text or a pair of instants is no window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWindow {
    /// Not a length of time.
    #[error("must be a length of time from 1m to 400d, such as 15m, 24h or 30d")]
    NotASpan,
    /// Not an instant.
    #[error("must be RFC 3339 with a time zone, a day such as 2026-11-21, or epoch milliseconds")]
    NotAnInstant,
    /// The end is not behind the beginning.
    #[error("must be later than `from`")]
    Empty,
    /// Longer than 400 days.
    #[error("must be at most 400 days after `from`")]
    TooLong,
}

/// A length of time such as `15m`, `24h`, `30d`: from a minute to 400 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span(TimeDelta);

impl Span {
    /// The length.
    #[must_use]
    pub fn length(self) -> TimeDelta {
        self.0
    }
}

impl FromStr for Span {
    type Err = InvalidWindow;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unit = text.chars().last().ok_or(InvalidWindow::NotASpan)?;
        let number = &text[..text.len() - unit.len_utf8()];
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidWindow::NotASpan);
        }
        let number: i64 = number.parse().map_err(|_| InvalidWindow::NotASpan)?;
        let length = match unit {
            'm' => TimeDelta::try_minutes(number),
            'h' => TimeDelta::try_hours(number),
            'd' => TimeDelta::try_days(number),
            _ => None,
        };
        length
            .filter(|length| (TimeDelta::minutes(1)..=LONGEST).contains(length))
            .map(Self)
            .ok_or(InvalidWindow::NotASpan)
    }
}

/// What was asked for, before it is known what time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WindowRequest {
    /// The time up to now.
    Last(Span),
    /// From an instant to another, or to now.
    Between(DateTime<Utc>, Option<DateTime<Utc>>),
}

impl WindowRequest {
    /// The window asked for at `now`.
    ///
    /// A window up to now also takes in the records that clients with fast clocks have sent ahead, so that what was
    /// acknowledged is in the next answer.
    ///
    /// # Errors
    /// [`InvalidWindow`] for an empty or too long one.
    pub fn at(self, now: DateTime<Utc>) -> Result<Window, InvalidWindow> {
        let end = now + AcceptedTimes::AHEAD;
        match self {
            Self::Last(span) => Ok(Window::widened(now - span.length(), end)),
            Self::Between(from, to) => Window::between(from, to.unwrap_or(end)),
        }
    }

    /// Reads an instant of a query; a day is its beginning in `zone`.
    ///
    /// # Errors
    /// [`InvalidWindow::NotAnInstant`].
    pub fn instant(text: &str, zone: Zone) -> Result<DateTime<Utc>, InvalidWindow> {
        if let Ok(day) = text.parse::<NaiveDate>() {
            // First the day itself: chrono panics where a zone would move it beyond what can be said.
            let day = Some(day).filter(|day| in_range(&Zone::UTC.start_of(*day)));
            return day.map(|day| zone.start_of(day)).filter(in_range).ok_or(InvalidWindow::NotAnInstant);
        }
        if let Ok(ms) = text.parse::<i64>() {
            return DateTime::from_timestamp_millis(ms).filter(in_range).ok_or(InvalidWindow::NotAnInstant);
        }
        DateTime::parse_from_rfc3339(text)
            .ok()
            .map(|instant| instant.to_utc())
            .filter(in_range)
            .ok_or(InvalidWindow::NotAnInstant)
    }
}

/// Years of four digits: arithmetic on them cannot leave what chrono and Postgres both can say.
fn in_range(instant: &DateTime<Utc>) -> bool {
    use chrono::Datelike as _;
    (1..=9998).contains(&instant.year())
}

/// A half-open range of whole minutes, never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

impl Window {
    /// `[from, to)`, widened to whole minutes.
    ///
    /// # Errors
    /// [`InvalidWindow::Empty`] where `to` is not behind `from`, [`InvalidWindow::TooLong`] over 400 days.
    pub fn between(from: DateTime<Utc>, to: DateTime<Utc>) -> Result<Self, InvalidWindow> {
        if to <= from {
            return Err(InvalidWindow::Empty);
        }
        if to - from > LONGEST + CLOCKS_PUT_BACK {
            return Err(InvalidWindow::TooLong);
        }
        Ok(Self::widened(from, to))
    }

    fn widened(from: DateTime<Utc>, to: DateTime<Utc>) -> Self {
        Self { from: floor(from, TimeDelta::minutes(1)), to: ceil(to, TimeDelta::minutes(1)) }
    }

    /// `[from, to)` of a zone's day or days.
    pub(super) fn of_bounds(from: DateTime<Utc>, to: DateTime<Utc>) -> Self {
        Self { from, to }
    }

    /// The same window widened to whole steps.
    #[must_use]
    pub fn widened_to(self, step: Step) -> Self {
        Self { from: floor(self.from, step.length()), to: ceil(self.to, step.length()) }
    }

    /// The window just before this one, as long as the part of this one that has passed at `now`: what `compare=previous`
    /// compares with.
    #[must_use]
    pub fn previous(self, now: DateTime<Utc>) -> Self {
        Self { from: self.from - (elapsed_end(self.from, self.to, now) - self.from), to: self.from }
    }

    /// The first instant.
    #[must_use]
    pub fn from(self) -> DateTime<Utc> {
        self.from
    }

    /// The first instant that is not in it.
    #[must_use]
    pub fn to(self) -> DateTime<Utc> {
        self.to
    }

    /// Its steps, where it is made of whole ones.
    pub fn steps(self, step: Step) -> impl Iterator<Item = Self> {
        let starts = std::iter::successors(Some(self.from), move |start| Some(*start + step.length()));
        starts
            .take_while(move |start| *start < self.to)
            .map(move |start| Self { from: start, to: start + step.length() })
    }

    /// The seconds of the window that have passed at `now`, see [`elapsed_seconds`].
    #[must_use]
    pub fn elapsed_seconds(self, now: DateTime<Utc>) -> f64 {
        elapsed_seconds(self.from, self.to, now)
    }
}

/// The seconds of `[from, to)` that have passed at `now`, the current minute in full: what a rate is divided by. At least
/// one minute.
#[must_use]
pub fn elapsed_seconds(from: DateTime<Utc>, to: DateTime<Utc>, now: DateTime<Utc>) -> f64 {
    (elapsed_end(from, to, now) - from).num_seconds() as f64
}

fn elapsed_end(from: DateTime<Utc>, to: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
    to.min(ceil(now, TimeDelta::minutes(1))).max(from + TimeDelta::minutes(1))
}

/// The width of a point in a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// A minute.
    Minute,
    /// Five minutes.
    FiveMinutes,
    /// An hour.
    Hour,
    /// A day: of UTC, unless a zone is asked for, see [`Zone::days`].
    Day,
}

impl Step {
    /// Every step, shortest first.
    pub const ALL: [Self; 4] = [Self::Minute, Self::FiveMinutes, Self::Hour, Self::Day];

    /// The name in queries and answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Minute => "1m",
            Self::FiveMinutes => "5m",
            Self::Hour => "1h",
            Self::Day => "1d",
        }
    }

    /// How long it is.
    #[must_use]
    pub fn length(self) -> TimeDelta {
        match self {
            Self::Minute => TimeDelta::minutes(1),
            Self::FiveMinutes => TimeDelta::minutes(5),
            Self::Hour => TimeDelta::hours(1),
            Self::Day => TimeDelta::days(1),
        }
    }

    /// The instant at which the step that `instant` lies in begins.
    #[must_use]
    pub fn start(self, instant: DateTime<Utc>) -> DateTime<Utc> {
        floor(instant, self.length())
    }
}

impl FromStr for Step {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|step| step.name() == name).ok_or(())
    }
}

pub(super) fn floor_hour(instant: DateTime<Utc>) -> DateTime<Utc> {
    floor(instant, TimeDelta::hours(1))
}

pub(super) fn floor_day(instant: DateTime<Utc>) -> DateTime<Utc> {
    floor(instant, TimeDelta::days(1))
}

fn floor(instant: DateTime<Utc>, step: TimeDelta) -> DateTime<Utc> {
    // Fails only for a step of zero or instants centuries away, which parsing has refused.
    instant.duration_trunc(step).unwrap_or(instant)
}

fn ceil(instant: DateTime<Utc>, step: TimeDelta) -> DateTime<Utc> {
    let floored = floor(instant, step);
    if floored == instant { instant } else { floored + step }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_span_has_a_number_and_a_unit() {
        assert_eq!("90m".parse::<Span>().map(Span::length), Ok(TimeDelta::minutes(90)));
        assert_eq!("400d".parse::<Span>().map(Span::length), Ok(TimeDelta::days(400)));
        for text in [
            "",
            "m",
            "0m",
            "401d",
            "-1h",
            "+1h",
            "1.5h",
            "1w",
            "1",
            "1é",
            "99999999999999999999d",
            "9223372036854775807d",
        ] {
            assert_eq!(text.parse::<Span>(), Err(InvalidWindow::NotASpan), "{text}");
        }
    }

    #[test]
    fn the_last_hour_is_widened_to_minutes_and_takes_in_fast_clocks() {
        let window = WindowRequest::Last("1h".parse().unwrap()).at(at("2026-11-21T10:20:30Z")).unwrap();
        assert_eq!((window.from(), window.to()), (at("2026-11-21T09:20:00Z"), at("2026-11-21T10:26:00Z")));
        assert_eq!(window.elapsed_seconds(at("2026-11-21T10:20:30Z")), 61.0 * 60.0);
    }

    #[test]
    fn the_period_before_is_as_long_as_what_has_passed() {
        let now = at("2026-11-21T10:20:30Z");
        let window = WindowRequest::Last("1h".parse().unwrap()).at(now).unwrap();
        let previous = window.previous(now);
        assert_eq!((previous.from(), previous.to()), (at("2026-11-21T08:19:00Z"), at("2026-11-21T09:20:00Z")));
        let closed = Window::between(at("2026-11-20T00:00:00Z"), at("2026-11-21T00:00:00Z")).unwrap();
        assert_eq!(closed.previous(now).from(), at("2026-11-19T00:00:00Z"));
    }

    #[test]
    fn an_instant_may_be_a_day_or_a_number() {
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        assert_eq!(WindowRequest::instant("2026-11-21", Zone::UTC), Ok(at("2026-11-21T00:00:00Z")));
        assert_eq!(WindowRequest::instant("2026-11-21", berlin), Ok(at("2026-11-20T23:00:00Z")));
        for zone in [Zone::UTC, berlin] {
            // An instant is one, wherever.
            assert_eq!(WindowRequest::instant("1795255199123", zone), Ok(at("2026-11-21T09:59:59.123Z")));
            assert_eq!(WindowRequest::instant("2026-11-21T11:00:00+01:00", zone), Ok(at("2026-11-21T10:00:00Z")));
            for text in ["now", "2026-11-21T10:00:00", "", "99999999999999999", "+10000-01-01T00:00:00Z", "0001-01-01"]
            {
                let refused = zone == berlin || text != "0001-01-01";
                assert_eq!(WindowRequest::instant(text, zone).is_err(), refused, "{text}");
            }
        }
    }

    #[test]
    fn a_window_has_a_beginning_before_its_end() {
        let (early, late) = (at("2026-11-20T00:00:00Z"), at("2026-11-21T00:00:00Z"));
        assert_eq!(Window::between(late, early), Err(InvalidWindow::Empty));
        assert_eq!(Window::between(late, late), Err(InvalidWindow::Empty));
        assert_eq!(Window::between(at("2020-01-01T00:00:00Z"), late), Err(InvalidWindow::TooLong));
        // 400 days of a zone, with two hours more in October and one less in March.
        let (from, to) = (at("2025-09-20T22:00:00Z"), at("2026-10-25T23:00:00Z"));
        assert!(Window::between(from, to).is_ok());
        assert_eq!(Window::between(from, to + TimeDelta::minutes(1)), Err(InvalidWindow::TooLong));
    }
}
