//! One finished HTTP request, field by field.
//!
//! Whatever it came in (JSON, a log line, the demo's generator), a record is read here and nowhere else, so that all ways
//! in agree on what is a valid one.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};

use super::endpoint::{Endpoint, InvalidEndpoint, Method, Service};
use super::histogram::MAX_RESPONSE_TIME_US;
use super::route::Route;

/// The longest trace id kept, bytes: W3C's has 32, AWS X-Ray's 35.
const TRACE_ID_MAX_BYTES: usize = 128;

/// Statuses of RFC 9110: three digits, the first 1 to 5.
const STATUS: std::ops::RangeInclusive<i64> = 100..=599;

/// Epoch milliseconds below this (September 2001) are epoch seconds sent by mistake, as far as anyone can tell.
const PLAUSIBLE_EPOCH_MS: f64 = 1e12;

/// The field that is wrong with a record, and why, in words for the person who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidField {
    /// The field, as the API names it; `None` where the record as a whole is wrong.
    pub field: Option<&'static str>,
    /// A stable word for the kind of mistake.
    pub code: &'static str,
    /// A sentence fragment that says what would be right.
    pub reason: Cow<'static, str>,
}

impl InvalidField {
    /// A mistake in one field.
    #[must_use]
    pub fn new(field: &'static str, code: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field), code, reason: reason.into() }
    }

    /// A field that must be there and is not.
    #[must_use]
    pub fn missing(field: &'static str) -> Self {
        Self::new(field, "missing", "is missing")
    }

    fn of_endpoint(field: &'static str, error: InvalidEndpoint) -> Self {
        let code = match error {
            InvalidEndpoint::Nul => "nul-character",
            InvalidEndpoint::Empty => "missing",
            InvalidEndpoint::TooLong(_) => "too-long",
            InvalidEndpoint::NotAToken => "invalid-method",
        };
        Self::new(field, code, error.to_string())
    }
}

/// From when to when records are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptedTimes {
    /// The oldest instant; `None`: any.
    pub oldest: Option<DateTime<Utc>>,
    /// The newest instant.
    pub newest: DateTime<Utc>,
}

impl AcceptedTimes {
    /// How far ahead of the service a client's clock may be.
    pub const AHEAD: TimeDelta = TimeDelta::minutes(5);

    /// What is taken at `now`.
    #[must_use]
    pub fn at(now: DateTime<Utc>, max_age: Option<TimeDelta>) -> Self {
        Self { oldest: max_age.map(|age| now - age), newest: now + Self::AHEAD }
    }
}

/// An instant as a client tells it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Timestamp<'a> {
    /// RFC 3339 with an offset.
    Text(&'a str),
    /// Milliseconds since 1970-01-01T00:00:00Z.
    EpochMs(f64),
    /// Read already.
    Instant(DateTime<Utc>),
}

impl Timestamp<'_> {
    /// The instant, to the microsecond.
    ///
    /// # Errors
    /// [`InvalidField`] for a text that is not RFC 3339, a leap second (which has no place of its own in a minute of sixty
    /// seconds), a number that is no instant, and for an instant outside `accepted`.
    pub fn read(self, accepted: AcceptedTimes) -> Result<DateTime<Utc>, InvalidField> {
        let invalid = |code, reason: &'static str| InvalidField::new("timestamp", code, reason);
        let instant = match self {
            Self::Instant(instant) => instant,
            Self::Text(text) => {
                let instant = match canonical(text) {
                    Some(instant) => instant,
                    None => DateTime::parse_from_rfc3339(text)
                        .map_err(|_| invalid("timestamp-invalid", "must be RFC 3339 with a time zone, such as 2026-11-21T10:00:00.123Z, or epoch milliseconds"))?
                        .to_utc(),
                };
                if instant.timestamp_subsec_nanos() >= 1_000_000_000 {
                    return Err(invalid("timestamp-invalid", "must not be a leap second"));
                }
                instant
            }
            Self::EpochMs(ms) => {
                if ms.abs() < PLAUSIBLE_EPOCH_MS {
                    return Err(invalid("timestamp-too-old", "must be epoch milliseconds; this looks like seconds"));
                }
                // A float far outside i64 saturates, and no such microsecond is an instant.
                DateTime::from_timestamp_micros((ms * 1_000.0).round() as i64).ok_or_else(|| {
                    let code = if ms < 0.0 { "timestamp-too-old" } else { "timestamp-in-future" };
                    invalid(code, "must be epoch milliseconds; this looks like a finer unit")
                })?
            }
        };
        // Before 1970 there was no HTTP; and neither Postgres nor the arithmetic of days reaches as far back as chrono.
        if instant < DateTime::UNIX_EPOCH {
            return Err(invalid("timestamp-too-old", "must not be before 1970"));
        }
        if instant > accepted.newest {
            return Err(invalid("timestamp-in-future", "must be at most 5 minutes ahead of the service's clock"));
        }
        if let Some(oldest) = accepted.oldest.filter(|oldest| instant < *oldest) {
            let days = (accepted.newest - oldest).num_days();
            return Err(InvalidField::new(
                "timestamp",
                "timestamp-too-old",
                format!("must be at most {days} days old"),
            ));
        }
        // Postgres holds microseconds; cutting here keeps a record in the minute that its digits say.
        if instant.timestamp_subsec_nanos().is_multiple_of(1_000) {
            return Ok(instant);
        }
        Ok(DateTime::from_timestamp_micros(instant.timestamp_micros()).unwrap_or(instant))
    }
}

/// Reads an instant in the one form in which nearly all of them come, `2026-11-21T10:00:00Z` with up to nine digits of a
/// fraction; `None` for every other text, whatever it is. chrono, which reads any form, takes five times as long, and a
/// record has little else in it that takes time.
fn canonical(text: &str) -> Option<DateTime<Utc>> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2, rest @ .., b'Z'] =
        text.as_bytes()
    else {
        return None;
    };
    let nanoseconds = match rest {
        [] => 0,
        [b'.', fraction @ ..] if (1..=9).contains(&fraction.len()) => {
            digits(fraction)? * 10_u32.pow(9 - fraction.len() as u32)
        }
        _ => return None,
    };
    let year = digits(&[*y1, *y2, *y3, *y4])?;
    let date = NaiveDate::from_ymd_opt(year as i32, digits(&[*m1, *m2])?, digits(&[*d1, *d2])?)?;
    // Refuses the 60th second, of which chrono's own reading makes a leap second.
    let time =
        NaiveTime::from_hms_nano_opt(digits(&[*h1, *h2])?, digits(&[*n1, *n2])?, digits(&[*s1, *s2])?, nanoseconds)?;
    Some(date.and_time(time).and_utc())
}

/// At most nine decimal digits as a number.
fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0')))
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target<'a> {
    /// The template, from a framework that knows it.
    Route(&'a str),
    /// The path, or the whole request target.
    Path(&'a str),
}

/// The fields of a record, not yet read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecordFields<'a> {
    /// When the request finished.
    pub timestamp: Timestamp<'a>,
    /// Who answered; left out, OpenTelemetry's `unknown_service`.
    pub service: Option<&'a str>,
    /// The method.
    pub method: &'a str,
    /// The route or path.
    pub target: Target<'a>,
    /// The status.
    pub status: i64,
    /// How long it took, milliseconds.
    pub response_time_ms: Option<f64>,
    /// The trace it belongs to.
    pub trace_id: Option<&'a str>,
}

impl RecordFields<'_> {
    /// The endpoint.
    ///
    /// # Errors
    /// [`InvalidField`] for a part of it that cannot be one.
    pub fn endpoint(&self) -> Result<Endpoint, InvalidField> {
        Ok(Endpoint {
            service: self
                .service
                .map_or_else(|| Ok(Service::unknown()), Service::parse)
                .map_err(|error| InvalidField::of_endpoint("service", error))?,
            method: Method::parse(self.method).map_err(|error| InvalidField::of_endpoint("method", error))?,
            route: match self.target {
                Target::Route(template) => {
                    Route::parse(template).map_err(|error| InvalidField::of_endpoint("route", error))?
                }
                Target::Path(path) => {
                    Route::from_path(path).map_err(|error| InvalidField::of_endpoint("path", error))?
                }
            },
        })
    }

    /// The status.
    ///
    /// # Errors
    /// [`InvalidField`] outside 100 to 599.
    pub fn status(&self) -> Result<u16, InvalidField> {
        match u16::try_from(self.status) {
            Ok(status) if STATUS.contains(&self.status) => Ok(status),
            _ => Err(InvalidField::new("status", "out-of-range", "must be from 100 to 599")),
        }
    }

    /// The response time in whole microseconds, rounded.
    ///
    /// # Errors
    /// [`InvalidField`] for a negative one (-0 included) or one over 24 hours.
    pub fn response_time_us(&self) -> Result<Option<u64>, InvalidField> {
        let Some(ms) = self.response_time_ms else { return Ok(None) };
        let us = (ms * 1_000.0).round();
        if ms.is_sign_negative() || us.is_nan() || us > MAX_RESPONSE_TIME_US as f64 {
            return Err(InvalidField::new(
                "response_time_ms",
                "out-of-range",
                "must be from 0 to 86400000 (24 hours, in milliseconds)",
            ));
        }
        Ok(Some(us as u64))
    }

    /// The trace id.
    ///
    /// # Errors
    /// [`InvalidField`] for one over 128 bytes or with NUL.
    pub fn trace_id(&self) -> Result<Option<Box<str>>, InvalidField> {
        let Some(id) = self.trace_id.filter(|id| !id.is_empty()) else { return Ok(None) };
        if id.len() > TRACE_ID_MAX_BYTES {
            return Err(InvalidField::of_endpoint("trace_id", InvalidEndpoint::TooLong(TRACE_ID_MAX_BYTES)));
        }
        if id.contains('\0') {
            return Err(InvalidField::of_endpoint("trace_id", InvalidEndpoint::Nul));
        }
        Ok(Some(id.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn accepted() -> AcceptedTimes {
        AcceptedTimes::at("2026-11-21T10:00:00Z".parse().unwrap(), Some(TimeDelta::days(400)))
    }

    #[test]
    fn an_instant_is_read_in_every_form() {
        let expected: DateTime<Utc> = "2026-11-21T09:59:59.123Z".parse().unwrap();
        for timestamp in [
            Timestamp::Text("2026-11-21T09:59:59.123Z"),
            Timestamp::Text("2026-11-21T23:59:59.123+14:00"),
            Timestamp::EpochMs(1_795_255_199_123.0),
        ] {
            assert_eq!(timestamp.read(accepted()), Ok(expected), "{timestamp:?}");
        }
    }

    #[test]
    fn what_is_no_instant_of_now_is_refused_with_its_reason() {
        for (timestamp, code) in [
            (Timestamp::Text("0000-01-01T00:00:00Z"), "timestamp-too-old"),
            (Timestamp::Text("1969-12-31T23:59:59Z"), "timestamp-too-old"),
            (Timestamp::Text("9999-12-31T23:59:59Z"), "timestamp-in-future"),
            (Timestamp::Text("300000-01-01T00:00:00Z"), "timestamp-invalid"),
            (Timestamp::Text("2026-11-20T23:59:60Z"), "timestamp-invalid"),
            (Timestamp::Text("2026-11-21T10:00:00"), "timestamp-invalid"),
            (Timestamp::Text("yesterday"), "timestamp-invalid"),
            (Timestamp::Text("2026-11-21T10:05:01Z"), "timestamp-in-future"),
            (Timestamp::EpochMs(1_795_255_199.0), "timestamp-too-old"),
            (Timestamp::EpochMs(1_795_255_199_123_000_000.0), "timestamp-in-future"),
            (Timestamp::EpochMs(9_223_372_036_854_775_808.0), "timestamp-in-future"),
            (Timestamp::EpochMs(f64::MAX), "timestamp-in-future"),
            (Timestamp::EpochMs(-1.0), "timestamp-too-old"),
            (Timestamp::EpochMs(f64::MIN), "timestamp-too-old"),
        ] {
            assert_eq!(timestamp.read(accepted()).map_err(|error| error.code), Err(code), "{timestamp:?}");
        }
    }

    #[test]
    fn even_where_any_age_is_taken_there_is_a_beginning() {
        let any = AcceptedTimes { oldest: None, ..accepted() };
        for ms in [-3e14, -6.3e13, -2e12] {
            assert_eq!(Timestamp::EpochMs(ms).read(any).map_err(|error| error.code), Err("timestamp-too-old"), "{ms}");
        }
        assert!(Timestamp::Text("1995-07-01T00:00:01-04:00").read(any).is_ok());
    }

    fn fields() -> RecordFields<'static> {
        RecordFields {
            timestamp: Timestamp::EpochMs(0.0),
            service: None,
            method: "GET",
            target: Target::Path("/items/7"),
            status: 200,
            response_time_ms: Some(12.7),
            trace_id: None,
        }
    }

    #[test]
    fn a_status_has_three_digits_and_a_known_class() {
        for status in [0, 99, 600, 999, -200, i64::MAX] {
            assert!(RecordFields { status, ..fields() }.status().is_err(), "{status}");
        }
        assert_eq!(fields().status(), Ok(200));
    }

    #[test]
    fn a_response_time_is_rounded_to_microseconds() {
        for (ms, us) in [(12.7, 12_700), (0.0, 0), (0.000_4, 0), (0.000_6, 1), (86_400_000.0, MAX_RESPONSE_TIME_US)] {
            assert_eq!(RecordFields { response_time_ms: Some(ms), ..fields() }.response_time_us(), Ok(Some(us)));
        }
        for ms in [-1.0, -0.0, 86_400_001.0, 1e300, f64::INFINITY, f64::NAN] {
            assert!(RecordFields { response_time_ms: Some(ms), ..fields() }.response_time_us().is_err(), "{ms}");
        }
    }

    proptest! {
        #[test]
        fn the_usual_form_means_what_chrono_says(
            text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,10})?Z",
            at in 0..40usize,
            with in "[0-9TtZz:. +é-]?",
        ) {
            // As it stands, and with one character replaced, put in or left out.
            let mut broken = text.clone();
            if at < text.len() {
                broken.replace_range(at..(at + 1).min(text.len()), &with);
            }
            for text in [&text, &broken] {
                if let Some(instant) = canonical(text) {
                    prop_assert_eq!(DateTime::parse_from_rfc3339(text).map(|instant| instant.to_utc()), Ok(instant));
                }
            }
            // And it is the usual form: with a fraction that fits, no valid instant is left to chrono but leap seconds.
            if let Ok(instant) = DateTime::parse_from_rfc3339(&text) {
                let is_usual = text.len() <= 30 && instant.timestamp_subsec_nanos() < 1_000_000_000;
                prop_assert_eq!(canonical(&text).is_some(), is_usual);
            }
        }
    }
}
