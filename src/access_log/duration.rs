//! Response times as access logs write them, made into milliseconds.
//!
//! Decides what a number means by the name of its field, and what a list means: nginx's `$upstream_response_time` lists
//! the servers it tried, `0.100, 0.004`, and after a redirect inside nginx a second group, `0.100, 0.004 : 0.020`. They
//! were tried one after the other, so the request took their sum. A server that was never reached is `-` and adds nothing.
//! Does not decide which of several fields is the one: the formats do, each in its own file.

use std::fmt;

use super::{InvalidLine, excerpt, is_absent};

/// Milliseconds from seconds, to the microsecond: the resolution of Apache's clock, finer than nginx's. Without rounding
/// 0.057 s could become 57.00000000000001 ms in one format and 57 ms in another.
pub(super) fn from_seconds(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e3
}

/// Reads a field named for seconds: a number, a list of them, or nothing.
pub(super) fn seconds(field: &'static str, text: &str) -> Result<Option<f64>, InvalidLine> {
    if is_absent(text) {
        return Ok(None);
    }
    match Listed::read(text) {
        Listed::Sum(sum) => checked(field, text, from_seconds(sum)).map(Some),
        Listed::Nothing => Ok(None),
        Listed::Negative => Err(negative(field, text)),
        Listed::Other => Err(invalid(field, text)),
    }
}

/// Reads a field named for a smaller unit, of which `in_millisecond` make a millisecond: a number, or nothing.
pub(super) fn fine(field: &'static str, text: &str, in_millisecond: f64) -> Result<Option<f64>, InvalidLine> {
    if is_absent(text) {
        return Ok(None);
    }
    match plain_number(text) {
        Some(number) => checked(field, text, number / in_millisecond).map(Some),
        None if is_negative(text) => Err(negative(field, text)),
        None => Err(invalid(field, text)),
    }
}

/// Passes a response time on if it is one; `given` is what the line says, for the message.
pub(super) fn checked(field: &'static str, given: impl fmt::Display, milliseconds: f64) -> Result<f64, InvalidLine> {
    if !milliseconds.is_finite() {
        Err(invalid(field, &given.to_string()))
    } else if milliseconds < 0.0 {
        Err(negative(field, &given.to_string()))
    } else {
        Ok(milliseconds)
    }
}

/// What a list of seconds comes to; a single number is a list of one.
#[derive(Debug, PartialEq)]
pub(super) enum Listed {
    /// At least one number; their sum, in the unit of the list.
    Sum(f64),
    /// Only `-`.
    Nothing,
    /// A number below zero among them.
    Negative,
    /// Not a list of numbers.
    Other,
}

impl Listed {
    /// Reads numbers separated by commas or by colons between spaces.
    pub(super) fn read(text: &str) -> Self {
        let mut sum = None;
        // nginx puts spaces around its colon; a colon without them belongs to a time of day or an address.
        for part in text.split(" : ").flat_map(|group| group.split(',')) {
            let part = part.trim();
            if part == "-" {
                continue;
            }
            match plain_number(part) {
                Some(number) => sum = Some(sum.unwrap_or(0.0) + number),
                None if is_negative(part) => return Self::Negative,
                None => return Self::Other,
            }
        }
        sum.map_or(Self::Nothing, Self::Sum)
    }
}

/// A number written with digits and at most one point between them. No sign, no exponent, no `inf`: servers write none.
pub(super) fn plain_number(text: &str) -> Option<f64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if digits(whole) && digits(fraction) { text.parse().ok() } else { None }
}

/// Whether this is a plain number with a minus before it.
pub(super) fn is_negative(text: &str) -> bool {
    text.strip_prefix('-').and_then(plain_number).is_some()
}

pub(super) fn negative(field: &'static str, text: &str) -> InvalidLine {
    InvalidLine::NegativeTime { field, found: excerpt(text) }
}

fn invalid(field: &'static str, text: &str) -> InvalidLine {
    InvalidLine::InvalidTime { field, found: excerpt(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_millisecond_in_seconds_comes_out_as_that_many_milliseconds() {
        for whole in 0..100_000_u32 {
            let text = format!("{}.{:03}", whole / 1000, whole % 1000);
            assert_eq!(seconds("t", &text), Ok(Some(f64::from(whole))), "{text}");
        }
    }

    #[test]
    fn the_servers_that_nginx_tried_are_added_up() {
        assert_eq!(seconds("t", "0.100, 0.004"), Ok(Some(104.0)));
        assert_eq!(seconds("t", "0.100, 0.004 : 0.020"), Ok(Some(124.0)));
        assert_eq!(seconds("t", "-, 0.004"), Ok(Some(4.0)));
        assert_eq!(seconds("t", "-, -"), Ok(None));
        assert_eq!(seconds("t", "-"), Ok(None));
    }

    #[test]
    fn negative_times_and_words_are_told_apart() {
        assert_eq!(seconds("t", "-1"), Err(negative("t", "-1")));
        assert_eq!(seconds("t", "0.1, -1"), Err(negative("t", "0.1, -1")));
        assert_eq!(fine("t", "-1", 1.0), Err(negative("t", "-1")));
        for text in ["nan", "inf", "1e3", "+1", "1.", ".5", "0.1,", "1.2.3", "5ms", "10:05:03.5"] {
            assert_eq!(seconds("t", text), Err(invalid("t", text)), "{text}");
        }
        let too_long = "9".repeat(400);
        assert_eq!(seconds("t", &too_long), Err(invalid("t", &too_long)));
    }
}
