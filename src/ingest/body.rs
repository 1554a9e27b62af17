//! From the bytes of a body to a batch.
//!
//! Decides: what is one record and what is its index; that a body that is not JSON is refused as a whole, while a record that
//! is wrong is reported and its neighbours go on. Does not decide: what a valid field is (`domain`), nor how large a body
//! may be (`http`).

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::answer::{RecordError, Rejects};
use super::plain;
use super::scalar::{Element, RawRecord};
use crate::domain::{AcceptedTimes, Batch, InvalidField};

/// Why a body was refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBody {
    /// Nothing but white space.
    #[error("the body is empty")]
    Empty,
    /// Not UTF-8 from this byte on.
    #[error("the body is not UTF-8 at byte {0}")]
    NotUtf8(usize),
    /// Not JSON; where and why.
    #[error("the body is not valid JSON: {0}")]
    NotJson(String),
}

/// What a body held.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The valid records.
    pub batch: Batch,
    /// How many were not.
    pub rejected: u64,
    /// Why, for the first hundred.
    pub errors: Vec<RecordError>,
}

/// Reads a record or an array of records.
///
/// # Errors
/// [`InvalidBody`] for anything but one JSON document.
pub fn read_json(body: &[u8], accepted: AcceptedTimes) -> Result<Parsed, InvalidBody> {
    let text = text(body)?;
    let mut collector = Collector::new(accepted);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Document(&mut collector)
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end())
        .map_err(|error| InvalidBody::NotJson(error.to_string()))?;
    Ok(collector.finish())
}

/// Reads a record a line. Empty lines are passed over and have no index.
///
/// # Errors
/// [`InvalidBody`] where not a single line is JSON.
pub fn read_ndjson(body: &[u8], accepted: AcceptedTimes) -> Result<Parsed, InvalidBody> {
    let text = text(body)?;
    let mut collector = Collector::new(accepted);
    let mut broken = 0;
    let mut first_break = None;
    let mut rest = text;
    while !rest.is_empty() {
        if let Some((record, behind)) = plain::record(rest) {
            collector.take_record(&record);
            rest = behind;
            continue;
        }
        let (line, behind) = rest.split_once('\n').unwrap_or((rest, ""));
        rest = behind;
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        match serde_json::from_str::<Element<'_>>(line) {
            Ok(element) => collector.take(&element),
            Err(error) => {
                let reason = format!("is not valid JSON at column {}", error.column());
                first_break.get_or_insert_with(|| error.to_string());
                broken += 1;
                collector.reject(InvalidField { field: None, code: "invalid-json", reason: reason.into() });
            }
        }
    }
    match first_break {
        Some(error) if broken == collector.next => Err(InvalidBody::NotJson(error)),
        _ => Ok(collector.finish()),
    }
}

fn text(body: &[u8]) -> Result<&str, InvalidBody> {
    let text = std::str::from_utf8(body).map_err(|error| InvalidBody::NotUtf8(error.valid_up_to()))?;
    if text.trim_ascii().is_empty() { Err(InvalidBody::Empty) } else { Ok(text) }
}

/// Gathers what a body holds, record by record.
struct Collector {
    accepted: AcceptedTimes,
    batch: Batch,
    rejects: Rejects,
    /// Index of the next record.
    next: u64,
}

impl Collector {
    fn new(accepted: AcceptedTimes) -> Self {
        Self { accepted, batch: Batch::default(), rejects: Rejects::default(), next: 0 }
    }

    fn take(&mut self, element: &Element<'_>) {
        match element {
            Element::Record(record) => self.take_record(record),
            Element::NotAnObject => {
                self.reject(InvalidField {
                    field: None,
                    code: "not-an-object",
                    reason: "must be a JSON object".into(),
                });
            }
        }
    }

    fn take_record(&mut self, record: &RawRecord<'_>) {
        match record.push_to(&mut self.batch, self.accepted) {
            Ok(()) => self.next += 1,
            Err(error) => self.reject(error),
        }
    }

    fn reject(&mut self, error: InvalidField) {
        self.rejects.add(self.next, error);
        self.next += 1;
    }

    fn finish(self) -> Parsed {
        Parsed { batch: self.batch, rejected: self.rejects.count, errors: self.rejects.first }
    }
}

/// A whole document: records go into the collector as they are read, so an array of any length is held once.
struct Document<'c>(&'c mut Collector);

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record or an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element::<Element<'de>>()? {
            self.0.take(&element);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let element = serde::Deserialize::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        self.0.take(&element);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Utc};

    const GOOD: &str = r#"{"timestamp":"2026-11-21T10:00:00Z","method":"GET","route":"/items/{id}","status":200,"response_time_ms":12.7}"#;

    fn accepted() -> AcceptedTimes {
        let now: DateTime<Utc> = "2026-11-21T10:00:00Z".parse().unwrap();
        AcceptedTimes::at(now, Some(chrono::TimeDelta::days(400)))
    }

    fn json(body: &str) -> Result<(usize, u64), InvalidBody> {
        read_json(body.as_bytes(), accepted()).map(|parsed| (parsed.batch.records().len(), parsed.rejected))
    }

    fn rejected(record: &str) -> Vec<(Option<&'static str>, &'static str)> {
        let parsed = read_json(record.as_bytes(), accepted()).unwrap();
        parsed.errors.iter().map(|error| (error.field, error.code)).collect()
    }

    #[test]
    fn a_body_is_a_record_an_array_or_lines() {
        assert_eq!(json(GOOD), Ok((1, 0)));
        assert_eq!(json(&format!("[{GOOD},{GOOD}]")), Ok((2, 0)));
        assert_eq!(json("[]"), Ok((0, 0)));
        let lines = read_ndjson(format!("{GOOD}\r\n\n{GOOD}\n").as_bytes(), accepted()).unwrap();
        assert_eq!(lines.batch.records().len(), 2);
    }

    #[test]
    fn what_is_not_one_document_is_refused_as_a_whole() {
        for body in [
            &format!("{GOOD}{GOOD}"),
            &format!("[{GOOD}"),
            &format!("{GOOD} x"),
            &format!("\u{feff}{GOOD}"),
            &GOOD.replace("200", "NaN"),
            &GOOD.replace("12.7", "1e400"),
            &GOOD.replace("12.7", "Infinity"),
            &GOOD.replace("\"status\":200", "\"status\":200,\"status\":201"),
            &GOOD.replace("/items", "\\ud800"),
            &"[".repeat(10_000),
            &format!("[{}{}]", "[".repeat(10_000), "]".repeat(10_000)),
            &GOOD.replace("200", &format!("200,\"x\":{}{}", "[".repeat(10_000), "]".repeat(10_000))),
            &GOOD.replace("200", &format!("200,\"x\":{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000))),
            "7",
            "null",
        ] {
            assert!(matches!(json(body), Err(InvalidBody::NotJson(_))), "{:?}: {:.80}", json(body), body);
        }
        assert_eq!(json("  \n"), Err(InvalidBody::Empty));
        let bad = read_json(b"{\"method\":\"\xff\"}", accepted()).map(|_| ());
        assert_eq!(bad, Err(InvalidBody::NotUtf8(11)));
    }

    #[test]
    fn a_wrong_field_is_named_and_its_neighbours_go_on() {
        let body = format!("[{GOOD},{},7,{GOOD}]", GOOD.replace("200", "\"200\""));
        let parsed = read_json(body.as_bytes(), accepted()).unwrap();
        let errors: Vec<_> = parsed.errors.iter().map(|error| (error.index, error.field, error.code)).collect();
        assert_eq!(errors, [(1, Some("status"), "wrong-type"), (2, None, "not-an-object")]);
        assert_eq!(parsed.batch.records().len(), 2);
    }

    #[test]
    fn every_field_is_checked() {
        for (from, to, field, code) in [
            ("200", "99", "status", "out-of-range"),
            ("200", "1.5", "status", "wrong-type"),
            ("200", "-0", "status", "wrong-type"),
            ("200", "9223372036854775808", "status", "wrong-type"),
            ("200", "null", "status", "missing"),
            ("12.7", "-1", "response_time_ms", "out-of-range"),
            ("12.7", "-0", "response_time_ms", "out-of-range"),
            ("12.7", "\"12\"", "response_time_ms", "wrong-type"),
            ("12.7", "18446744073709551616", "response_time_ms", "out-of-range"),
            ("\"GET\"", "[]", "method", "wrong-type"),
            ("\"GET\"", "\"G\\u0000T\"", "method", "nul-character"),
            ("/items/{id}", "\\u0000", "route", "nul-character"),
            ("\"route\"", "\"rout\"", "route", "missing"),
            ("\"2026-11-21T10:00:00Z\"", "true", "timestamp", "wrong-type"),
            ("\"2026-11-21T10:00:00Z\"", "1795255", "timestamp", "timestamp-too-old"),
        ] {
            assert_eq!(rejected(&GOOD.replace(from, to)), [(Some(field), code)], "{to}");
        }
    }

    #[test]
    fn a_broken_line_is_reported_among_good_ones_and_refused_alone() {
        let parsed = read_ndjson(format!("{GOOD}\n{{oops\n{GOOD}").as_bytes(), accepted()).unwrap();
        assert_eq!(
            (parsed.batch.records().len(), parsed.errors[0].index, parsed.errors[0].code),
            (2, 1, "invalid-json")
        );
        assert!(matches!(read_ndjson(b"{oops\n{again", accepted()), Err(InvalidBody::NotJson(_))));
    }

    #[test]
    fn only_the_first_hundred_errors_are_listed() {
        let parsed = read_json(format!("[{}]", ["1"; 150].join(",")).as_bytes(), accepted()).unwrap();
        assert_eq!((parsed.rejected, parsed.errors.len()), (150, 100));
    }
}
