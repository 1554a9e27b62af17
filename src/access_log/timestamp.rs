//! Instants as access logs write them: `17/May/2015:10:05:03 +0000`, RFC 3339, and seconds or milliseconds since 1970.
//!
//! Decides that an instant must say its distance from UTC: a local time is turned down, not guessed at. Written by hand,
//! since chrono's format strings cost several times as much as all the rest of a line, and its RFC 3339 does not know the
//! offset without a colon that `strftime`'s `%z` gives Apache. Does not decide whether an instant is too old or too new.

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};

use super::{InvalidLine, excerpt};

/// From here on a number is taken for milliseconds since 1970, below for seconds: as seconds it is the year 5138, as
/// milliseconds it is March 1973, so that no log of a web server is near it on either side.
pub(super) const MILLISECONDS_FROM: f64 = 1e11;

/// Reads an instant in any of the three ways, in square brackets or not.
pub(super) fn parse(text: &str) -> Result<DateTime<Utc>, InvalidLine> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let bytes = bare.as_bytes();
    let instant = match (bytes.get(2), bytes.get(4)) {
        (Some(b'/'), _) => common_log(bytes),
        (_, Some(b'-')) => rfc3339(bytes),
        _ => super::duration::plain_number(bare).and_then(since_1970),
    };
    instant.ok_or_else(|| InvalidLine::InvalidTimestamp { found: excerpt(text) })
}

/// An instant given as seconds or as milliseconds since 1970, to about a microsecond, the resolution
/// that such a number has itself; `None` if it is negative or beyond the
/// years that can be told.
pub(super) fn since_1970(number: f64) -> Option<DateTime<Utc>> {
    if number < 0.0 {
        return None;
    }
    let microseconds = if number < MILLISECONDS_FROM { number * 1e6 } else { number * 1e3 };
    DateTime::from_timestamp_micros(microseconds.round() as i64)
}

/// `17/May/2015:10:05:03 +0000`, possibly with a fraction of the second.
fn common_log(bytes: &[u8]) -> Option<DateTime<Utc>> {
    let day = digits(bytes.get(..2)?)?;
    let month = match bytes.get(2..7)? {
        b"/Jan/" => 1,
        b"/Feb/" => 2,
        b"/Mar/" => 3,
        b"/Apr/" => 4,
        b"/May/" => 5,
        b"/Jun/" => 6,
        b"/Jul/" => 7,
        b"/Aug/" => 8,
        b"/Sep/" => 9,
        b"/Oct/" => 10,
        b"/Nov/" => 11,
        b"/Dec/" => 12,
        _ => return None,
    };
    let year = digits(bytes.get(7..11)?)?;
    let (time, rest) = time_of_day(bytes.get(11..)?.strip_prefix(b":")?)?;
    instant(year, month, day, time, rest.strip_prefix(b" ")?)
}

/// `2015-05-17T10:05:03Z`, with any of the offsets that [`instant`] knows.
fn rfc3339(bytes: &[u8]) -> Option<DateTime<Utc>> {
    let year = digits(bytes.get(..4)?)?;
    let [b'-', month @ .., b'-'] = bytes.get(4..8)? else {
        return None;
    };
    let month = digits(month)?;
    let day = digits(bytes.get(8..10)?)?;
    if !matches!(bytes.get(10)?, b'T' | b't' | b' ') {
        return None;
    }
    let (time, rest) = time_of_day(bytes.get(11..)?)?;
    instant(year, month, day, time, rest)
}

/// `10:05:03` or `10:05:03.123456789`, and what stands behind it.
fn time_of_day(bytes: &[u8]) -> Option<(NaiveTime, &[u8])> {
    let [h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] = bytes else {
        return None;
    };
    let (mut nanoseconds, mut rest) = (0, rest);
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        // Nine digits are nanoseconds; nobody's clock has more, so more is not a time.
        let missing = 9_u32.checked_sub(u32::try_from(length).ok()?)?;
        let (number, behind) = fraction.split_at(length);
        nanoseconds = digits(number)? * 10_u32.pow(missing);
        rest = behind;
    }
    let time =
        NaiveTime::from_hms_nano_opt(digits(&[*h1, *h2])?, digits(&[*m1, *m2])?, digits(&[*s1, *s2])?, nanoseconds)?;
    Some((time, rest))
}

/// Puts the parts together; `offset` is `Z`, `+0900` or `+09:00`.
fn instant(year: u32, month: u32, day: u32, time: NaiveTime, offset: &[u8]) -> Option<DateTime<Utc>> {
    let minutes = match *offset {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, m1, m2] | [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[h1, h2])?, digits(&[m1, m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let east = i64::from(hours * 60 + minutes);
            if sign == b'+' { east } else { -east }
        }
        _ => return None,
    };
    NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?
        .and_time(time)
        .checked_sub_signed(TimeDelta::minutes(minutes))
        .map(|utc| utc.and_utc())
}

/// One to nine decimal digits as a number.
fn digits(bytes: &[u8]) -> Option<u32> {
    if bytes.is_empty() || bytes.len() > 9 {
        return None;
    }
    bytes.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> Option<String> {
        parse(text).ok().map(|t| t.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
    }

    #[test]
    fn every_way_to_write_an_instant_gives_the_same_instant() {
        for text in [
            "06/Sep/2015:05:58:05 +0900",
            "[06/Sep/2015:05:58:05 +0900]",
            "05/Sep/2015:16:28:05 -0430",
            "2015-09-06T05:58:05+09:00",
            "2015-09-06T05:58:05+0900",
            "2015-09-05 20:58:05Z",
            "2015-09-05t20:58:05.000z",
            "1441486685",
            "1441486685.000",
            "1441486685000",
        ] {
            assert_eq!(utc(text).as_deref(), Some("2015-09-05T20:58:05Z"), "{text}");
        }
    }

    #[test]
    fn fractions_of_a_second_are_kept() {
        assert_eq!(utc("17/May/2015:10:05:03.25 +0000").as_deref(), Some("2015-05-17T10:05:03.250Z"));
        assert_eq!(utc("1441486685.123").as_deref(), Some("2015-09-05T20:58:05.123Z"));
    }

    #[test]
    fn what_is_no_instant_is_turned_down() {
        for text in [
            "",
            "-",
            "31/Feb/2015:10:05:03 +0000",
            "17/Mai/2015:10:05:03 +0000",
            "17/May/2015:24:00:00 +0000",
            "17/May/2015:10:05:03",
            "17/May/2015:10:05:03 +9900",
            "17/May/2015:10:05:03 +0000 x",
            "+7/May/2015:10:05:03 +0000",
            "2015-05-17T10:05:03",
            "2015-05-17T10:05:03.Z",
            "2015-05-17T10:05:03.1234567890Z",
            "2015-05-17",
            "-5",
            "99999999999999999999999999",
            "ä/é",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
