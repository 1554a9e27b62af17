//! Time zones: which instants the days of a place begin and end at.
//!
//! The rules are those of the IANA database as compiled in ([`chrono_tz`]), and nothing else is asked: Postgres gets finished
//! instants, so its own copy of the rules, which may be another, never decides.
//!
//! The hour is the finest step that is kept for long, so days can be made only of whole hours. [`Zone::days`] looks at the
//! days that a window really touches: what a zone did at other times does not matter.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeZone as _, Utc};
use chrono_tz::{GapInfo, Tz};

use super::window::{Window, floor_hour};

/// Not the name of a time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the name of a time zone in the IANA database, such as Europe/Berlin or UTC")]
pub struct UnknownZone;

/// A day begins inside an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a day of {} begins at {begins}, not on a full hour", zone.name())]
pub struct OffTheHour {
    /// The zone.
    pub zone: Zone,
    /// The first day found to do so.
    pub day: NaiveDate,
    /// When it begins.
    pub begins: DateTime<Utc>,
}

/// A time zone of the IANA database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Zone(Tz);

impl FromStr for Zone {
    type Err = UnknownZone;

    /// By its exact name.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        name.parse().map(Self).map_err(|_| UnknownZone)
    }
}

impl Zone {
    /// The zone of questions that name none.
    pub const UTC: Self = Self(Tz::UTC);

    /// Its name, as it was written.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// The first instant of a day.
    ///
    /// Where clocks are put forward over midnight, that is when they have been; where they are put back and show midnight
    /// twice, the first time. A day that was left out as a whole (at the date line) begins with the one after it.
    #[must_use]
    pub fn start_of(self, day: NaiveDate) -> DateTime<Utc> {
        let midnight = day.and_time(NaiveTime::MIN);
        let start = self.0.from_local_datetime(&midnight).earliest();
        let start = start.or_else(|| GapInfo::new(&midnight, &self.0)?.end);
        // No zone has a gap without an end, see the tests.
        start.map_or_else(|| midnight.and_utc(), |start| start.to_utc())
    }

    /// The days that have a part in `window`, whole.
    ///
    /// # Errors
    /// [`OffTheHour`] if one of them does not begin or end on a full hour of UTC.
    pub fn days(self, window: Window) -> Result<Days, OffTheHour> {
        let mut date = window.from().with_timezone(&self.0).date_naive();
        let mut start = self.start_on_the_hour(date)?;
        let mut days = Vec::new();
        while start < window.to() {
            let Some(next_date) = date.succ_opt() else { break };
            let next = self.start_on_the_hour(next_date)?;
            // Not over before the window begins, as one may be that clocks come back to; and not a day that was left out.
            if next > start && next > window.from() {
                days.push(Day { date, window: Window::of_bounds(start, next) });
            }
            (date, start) = (next_date, next);
        }
        let from = days.first().map_or(window.from(), |day| day.window.from());
        Ok(Days { window: Window::of_bounds(from, start), days })
    }

    fn start_on_the_hour(self, day: NaiveDate) -> Result<DateTime<Utc>, OffTheHour> {
        let begins = self.start_of(day);
        if floor_hour(begins) == begins { Ok(begins) } else { Err(OffTheHour { zone: self, day, begins }) }
    }
}

/// A day of a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// As calendars there say it.
    pub date: NaiveDate,
    /// From its beginning to its end: mostly 24 hours.
    pub window: Window,
}

/// The days of a window: oldest first, at least one, without gaps, on full hours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Days {
    window: Window,
    days: Vec<Day>,
}

impl Days {
    /// All of them together.
    #[must_use]
    pub fn window(&self) -> Window {
        self.window
    }

    /// Each.
    #[must_use]
    pub fn all(&self) -> &[Day] {
        &self.days
    }

    /// The day with this number, from 1: what [`bounds`](Self::bounds) tell Postgres to count by.
    #[must_use]
    pub fn numbered(&self, number: usize) -> Option<&Day> {
        self.days.get(number.checked_sub(1)?)
    }

    /// The day that calendars say is this one.
    #[must_use]
    pub fn on(&self, date: NaiveDate) -> Option<&Day> {
        self.days.get(self.days.binary_search_by_key(&date, |day| day.date).ok()?)
    }

    /// Their beginnings and the end of the last, each once, ascending.
    #[must_use]
    pub fn bounds(&self) -> Vec<DateTime<Utc>> {
        self.days.iter().map(|day| day.window.from()).chain([self.window.to()]).collect()
    }

    /// Whether they are the days of UTC, whatever the zone is called: then the daily view knows them.
    #[must_use]
    pub fn are_of_utc(&self) -> bool {
        self.days.iter().all(|day| {
            let next = day.date.succ_opt().map(|next| Zone::UTC.start_of(next));
            day.window.from() == Zone::UTC.start_of(day.date) && Some(day.window.to()) == next
        })
    }
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike as _, TimeDelta, Timelike as _};
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn zone(name: &str) -> Zone {
        name.parse().unwrap()
    }

    fn window(from: &str, to: &str) -> Window {
        Window::between(at(from), at(to)).unwrap()
    }

    fn start(name: &str, day: &str) -> String {
        zone(name).start_of(day.parse().unwrap()).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    }

    fn hours(day: &Day) -> i64 {
        (day.window.to() - day.window.from()).num_hours()
    }

    #[test]
    fn a_zone_goes_by_its_exact_name() {
        for name in ["UTC", "Etc/UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+12", "CET"] {
            assert_eq!(zone(name).name(), name);
        }
        for name in
            ["", "europe/berlin", "Europe/Berlin ", "Berlin", "+01:00", "Z", "Europe", "CEST", "../UTC", "UTC\0"]
        {
            assert_eq!(name.parse::<Zone>(), Err(UnknownZone), "{name}");
        }
    }

    #[test]
    fn a_day_begins_at_midnight_there() {
        assert_eq!(start("UTC", "2026-11-21"), "2026-11-21T00:00:00Z");
        assert_eq!(start("Europe/Berlin", "2026-11-21"), "2026-11-20T23:00:00Z");
        assert_eq!(start("Europe/Berlin", "2026-07-01"), "2026-06-30T22:00:00Z");
        assert_eq!(start("America/New_York", "2026-11-21"), "2026-11-21T05:00:00Z");
        assert_eq!(start("Asia/Kolkata", "2026-11-21"), "2026-11-20T18:30:00Z");
        assert_eq!(start("Pacific/Kiritimati", "2026-11-21"), "2026-11-20T10:00:00Z");
    }

    #[test]
    fn where_there_is_no_midnight_a_day_begins_when_clocks_have_been_put_forward() {
        // From 00:00 to 01:00.
        assert_eq!(start("America/Sao_Paulo", "2018-11-04"), "2018-11-04T03:00:00Z");
        assert_eq!(start("Asia/Beirut", "2026-03-29"), "2026-03-28T22:00:00Z");
        assert_eq!(start("Africa/Cairo", "2026-04-24"), "2026-04-23T22:00:00Z");
        // From 23:30 to 00:30: half an hour before the midnight there would have been.
        assert_eq!(start("America/Toronto", "1919-03-31"), "1919-03-31T04:30:00Z");
        // Samoa had no 30 December 2011.
        assert_eq!(start("Pacific/Apia", "2011-12-30"), "2011-12-30T10:00:00Z");
        assert_eq!(start("Pacific/Apia", "2011-12-31"), "2011-12-30T10:00:00Z");
    }

    #[test]
    fn where_midnight_comes_twice_a_day_begins_the_first_time() {
        // Back from 01:00 to 00:00.
        assert_eq!(start("America/Havana", "2026-11-01"), "2026-11-01T04:00:00Z");
        assert_eq!(start("Atlantic/Azores", "2026-10-25"), "2026-10-25T00:00:00Z");
        // Back from 00:00 to 23:00: the day before goes on, and midnight comes once.
        assert_eq!(start("America/Sao_Paulo", "2018-02-18"), "2018-02-18T03:00:00Z");
        assert_eq!(start("Asia/Beirut", "2026-10-25"), "2026-10-24T22:00:00Z");
    }

    #[test]
    fn the_days_of_a_window_are_whole_and_as_long_as_clocks_make_them() {
        for (name, from, to, expected) in [
            ("Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z", &[24, 23, 24][..]),
            ("Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", &[25]),
            ("America/New_York", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z", &[23]),
            ("America/New_York", "2026-11-01T04:00:00Z", "2026-11-02T05:00:01Z", &[25, 24]),
            ("UTC", "2026-03-29T00:00:00Z", "2026-03-29T00:01:00Z", &[24]),
        ] {
            let days = zone(name).days(window(from, to)).unwrap();
            assert_eq!(days.all().iter().map(hours).collect::<Vec<_>>(), expected, "{name} from {from}");
        }
        let days = zone("Europe/Berlin").days(window("2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z")).unwrap();
        assert_eq!(
            days.bounds(),
            ["2026-03-27T23:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", "2026-03-30T22:00:00Z"].map(at)
        );
        assert_eq!(days.numbered(2).unwrap().date.to_string(), "2026-03-29");
        assert_eq!((days.numbered(0), days.numbered(4)), (None, None));
        assert_eq!(days.on(days.all()[2].date), days.numbered(3));
        assert_eq!(days.on("2026-03-31".parse().unwrap()), None);
    }

    #[test]
    fn a_day_that_was_left_out_is_none_of_the_days() {
        let days = zone("Pacific/Apia").days(window("2011-12-29T10:00:00Z", "2011-12-31T10:00:00Z")).unwrap();
        let dates: Vec<String> = days.all().iter().map(|day| day.date.to_string()).collect();
        assert_eq!(dates, ["2011-12-29", "2011-12-31"]);
    }

    #[test]
    fn a_zone_off_the_full_hour_is_refused_only_where_its_days_are_asked_for() {
        let november = window("2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z");
        let july = window("2026-07-20T00:00:00Z", "2026-07-21T00:00:00Z");
        for name in ["Asia/Kolkata", "Asia/Kathmandu", "Australia/Adelaide", "Australia/Eucla", "America/St_Johns"] {
            for window in [november, july] {
                let refused = zone(name).days(window).unwrap_err();
                assert_eq!(refused.zone.name(), name);
                assert_ne!(refused.begins.minute(), 0, "{name}");
            }
        }
        // 11 hours ahead in its summer, 10 and a half in its winter: by half an hour only.
        assert!(zone("Australia/Lord_Howe").days(november).is_ok());
        assert!(zone("Australia/Lord_Howe").days(july).is_err());
        // Both bounds of a day count: that of the change, the fourth, begins at half past and ends on the hour.
        assert!(zone("Australia/Lord_Howe").days(window("2026-10-04T12:59:00Z", "2026-10-04T13:00:00Z")).is_err());
        assert!(zone("Australia/Lord_Howe").days(window("2026-10-04T13:00:00Z", "2026-10-04T13:01:00Z")).is_ok());
        // Half an hour off until May 2018.
        assert!(zone("Asia/Pyongyang").days(november).is_ok());
        assert!(zone("Asia/Pyongyang").days(window("2018-05-01T00:00:00Z", "2018-05-02T00:00:00Z")).is_err());
    }

    #[test]
    fn days_are_of_utc_by_when_they_begin_not_by_the_name_of_the_zone() {
        let winter = window("2026-01-10T00:00:00Z", "2026-02-10T00:00:00Z");
        let spring = window("2026-03-10T00:00:00Z", "2026-04-10T00:00:00Z");
        for (name, in_winter, in_spring) in [
            ("UTC", true, true),
            ("Etc/UTC", true, true),
            ("Africa/Abidjan", true, true),
            ("Europe/London", true, false),
            ("Europe/Berlin", false, false),
        ] {
            assert_eq!(zone(name).days(winter).unwrap().are_of_utc(), in_winter, "{name}");
            assert_eq!(zone(name).days(spring).unwrap().are_of_utc(), in_spring, "{name}");
        }
        // One day that is none of UTC's, the first or the last, is enough.
        for (from, to) in [
            ("2026-10-25T12:00:00Z", "2026-11-10T00:00:00Z"),
            ("2026-10-25T12:00:00Z", "2026-10-25T12:01:00Z"),
            ("2026-03-20T00:00:00Z", "2026-03-29T12:00:00Z"),
        ] {
            assert!(!zone("Europe/London").days(window(from, to)).unwrap().are_of_utc(), "{from}");
        }
    }

    /// Every zone over the years that records can be of: a day begins somewhere, also where clocks show no midnight.
    #[test]
    fn every_day_of_every_zone_begins_and_ends() {
        for tz in chrono_tz::TZ_VARIANTS {
            let zone = Zone(tz);
            let mut day = NaiveDate::from_ymd_opt(2011, 1, 1).unwrap();
            let mut before = zone.start_of(day);
            while day.year() < 2036 {
                day = day.succ_opt().unwrap();
                let start = zone.start_of(day);
                let length = start - before;
                let in_order = TimeDelta::zero() <= length && length <= TimeDelta::hours(49);
                assert!(in_order, "{}: {day} begins at {start}, {length} after the day before", zone.name());
                // The first instant of the day, or of the one after it where it was left out.
                assert!(start.with_timezone(&tz).date_naive() >= day, "{}: {day}", zone.name());
                let last = start - TimeDelta::seconds(1);
                assert!(last.with_timezone(&tz).date_naive() < day, "{}: {day}", zone.name());
                before = start;
            }
        }
    }

    proptest! {
        #[test]
        fn days_lie_end_to_end_and_each_instant_of_the_window_in_its_own(
            index in 0..chrono_tz::TZ_VARIANTS.len(),
            from in 0..2_145_916_800_i64,
            minutes in 1..400 * 24 * 60_i64,
            part in 0.0..1.0,
        ) {
            let zone = Zone(chrono_tz::TZ_VARIANTS[index]);
            let from = DateTime::from_timestamp(from, 0).unwrap();
            let window = Window::between(from, from + TimeDelta::minutes(minutes)).unwrap();
            // Off the full hour: refused, which the tests above look at.
            if let Ok(days) = zone.days(window) {
                let bounds = days.bounds();
                prop_assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{bounds:?}");
                prop_assert!(bounds.iter().all(|bound| bound.timestamp() % 3_600 == 0));
                prop_assert_eq!(days.all().len() + 1, bounds.len());
                prop_assert_eq!((days.window().from(), days.window().to()), (bounds[0], bounds[bounds.len() - 1]));
                // No more than is touched.
                prop_assert!(bounds[0] <= window.from() && window.from() < bounds[1]);
                prop_assert!(bounds[bounds.len() - 2] < window.to() && window.to() <= bounds[bounds.len() - 1]);
                for (number, day) in (1..).zip(days.all()) {
                    prop_assert_eq!(days.numbered(number), Some(day));
                    prop_assert_eq!((day.window.from(), day.window.to()), (bounds[number - 1], bounds[number]));
                }
                let seconds = (window.to() - window.from()).num_seconds() as f64 * part;
                let instant = window.from() + TimeDelta::seconds(seconds as i64);
                let within = |day: &&Day| day.window.from() <= instant && instant < day.window.to();
                let found: Vec<_> = days.all().iter().filter(within).collect();
                prop_assert_eq!(found.len(), 1);
                prop_assert_eq!(found[0].date, instant.with_timezone(&zone.0).date_naive());
            }
        }
    }
}
