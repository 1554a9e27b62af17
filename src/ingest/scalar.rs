//! A record as JSON has it: every field whatever its type, so that a wrong one is reported by name.
//!
//! A derived `Deserialize` stops at the first field of a wrong type and says no more than where; and it skips unknown fields
//! without counting how deep they nest. Both matter here.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::domain::{AcceptedTimes, Batch, InvalidField, RecordFields, Target, Timestamp};

/// A JSON value, as far as a record's fields care.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Scalar<'a> {
    /// Not there, or null.
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Integer(i64),
    Number(f64),
    /// An array, an object, true or false.
    Other,
}

/// One element of a body.
#[derive(Debug)]
pub(super) enum Element<'a> {
    Record(Box<RawRecord<'a>>),
    NotAnObject,
}

/// The fields of a record.
#[derive(Debug, Default)]
pub(super) struct RawRecord<'a>(pub(super) [Scalar<'a>; FIELDS.len()]);

/// The fields, by their position in [`RawRecord`].
pub(super) const FIELDS: [&str; 8] =
    ["timestamp", "service", "method", "route", "path", "status", "response_time_ms", "trace_id"];

/// Position in [`FIELDS`] of a name; `None` for one that is not known.
pub(super) fn field(name: &str) -> Option<usize> {
    FIELDS.iter().position(|field| *field == name)
}

const TIMESTAMP: usize = 0;
const SERVICE: usize = 1;
const METHOD: usize = 2;
const ROUTE: usize = 3;
const PATH: usize = 4;
const STATUS: usize = 5;
const RESPONSE_TIME_MS: usize = 6;
const TRACE_ID: usize = 7;

impl RawRecord<'_> {
    /// Reads the fields into `batch`.
    pub(super) fn push_to(&self, batch: &mut Batch, accepted: AcceptedTimes) -> Result<(), InvalidField> {
        let fields = RecordFields {
            timestamp: match &self.0[TIMESTAMP] {
                Scalar::Text(text) => Timestamp::Text(text),
                Scalar::Integer(ms) => Timestamp::EpochMs(*ms as f64),
                Scalar::Number(ms) => Timestamp::EpochMs(*ms),
                Scalar::Absent => return Err(InvalidField::missing("timestamp")),
                Scalar::Other => return Err(wrong_type("timestamp", "must be a text or a number")),
            },
            service: self.text(SERVICE)?,
            method: self.text(METHOD)?.ok_or_else(|| InvalidField::missing("method"))?,
            target: match (self.text(ROUTE)?, self.text(PATH)?) {
                (Some(template), _) => Target::Route(template),
                (None, Some(path)) => Target::Path(path),
                (None, None) => return Err(InvalidField::new("route", "missing", "is missing, and so is `path`")),
            },
            status: match &self.0[STATUS] {
                Scalar::Integer(status) => *status,
                Scalar::Absent => return Err(InvalidField::missing("status")),
                _ => return Err(wrong_type("status", "must be a whole number from 100 to 599")),
            },
            response_time_ms: match &self.0[RESPONSE_TIME_MS] {
                Scalar::Integer(ms) => Some(*ms as f64),
                Scalar::Number(ms) => Some(*ms),
                Scalar::Absent => None,
                _ => return Err(wrong_type("response_time_ms", "must be a number of milliseconds")),
            },
            trace_id: self.text(TRACE_ID)?,
        };
        batch.push(&fields, accepted)
    }

    fn text(&self, field: usize) -> Result<Option<&str>, InvalidField> {
        match &self.0[field] {
            Scalar::Text(text) => Ok(Some(text)),
            Scalar::Absent => Ok(None),
            _ => Err(wrong_type(FIELDS[field], "must be a text")),
        }
    }
}

fn wrong_type(field: &'static str, reason: &'static str) -> InvalidField {
    InvalidField::new(field, "wrong-type", reason)
}

impl<'de> Deserialize<'de> for Element<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ElementVisitor)
    }
}

struct ElementVisitor;

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Element<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut record = Box::<RawRecord<'de>>::default();
        let mut seen = [false; FIELDS.len()];
        while let Some(Key(key)) = map.next_key()? {
            match key {
                Some(field) if std::mem::replace(&mut seen[field], true) => {
                    return Err(A::Error::custom(format_args!("`{}` stands there twice", FIELDS[field])));
                }
                Some(field) => record.0[field] = map.next_value()?,
                None => drop(map.next_value::<Scalar<'de>>()?),
            }
        }
        Ok(Element::Record(record))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        ScalarVisitor.visit_seq(seq).map(|_| Element::NotAnObject)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Element::NotAnObject)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Element::NotAnObject)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Element::NotAnObject)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Element::NotAnObject)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Element::NotAnObject)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Element::NotAnObject)
    }
}

/// Position in [`FIELDS`] of a key; `None` for one that is not known.
struct Key(Option<usize>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Key(field(name)))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(number).map_or(Scalar::Number(number as f64), Scalar::Integer))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(number))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Other)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Absent)
    }

    // Nested values are walked through, not skipped: walking counts the depth, and serde_json refuses the 128th level.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<Scalar<'de>>()?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<Key, Scalar<'de>>()?.is_some() {}
        Ok(Scalar::Other)
    }
}
