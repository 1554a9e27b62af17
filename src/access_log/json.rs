//! One JSON object a line, as nginx's `escape=json`, Caddy and the users of alp write it.
//!
//! Decides which keys matter; of several for one thing, the first of these that holds something:
//!
//! | thing | keys |
//! |---|---|
//! | time | `time`, `timestamp`, `@timestamp`, `time_iso8601`, `time_local`, `ts`; a date as text, or a number: seconds since 1970, milliseconds if it is that large |
//! | method | `method`, `request_method`, else from `request` |
//! | path | `request_uri`, else from `request`, else `uri`, `url`, `path`: nginx's `$uri` has lost the query and followed rewrites |
//! | `request` | a whole request line; or Caddy's object with `method` and `uri` |
//! | status | `status`, a number or a number in quotation marks |
//! | response time | milliseconds: `response_time_ms`, `duration_ms`; seconds: `request_time`, `reqtime`, `response_time`, `duration`, `restime`, `apptime`; a number, or text as nginx writes it |
//! | service | `service`, `vhost` |
//! | trace | `trace_id`, `traceparent` |
//!
//! All others are passed over: `host` is the machine in one log, the client in another. `null`, `""` and `"-"` are nothing.
//! A key that matters, given twice, rejects the line.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use super::{InvalidLine, LogLine, duration, excerpt, is_absent, request, status, timestamp, trace_of};

/// The keys that matter; one that the line does not have is [`Value::Nothing`].
#[derive(Default, Deserialize)]
#[serde(default)]
struct Object<'a> {
    #[serde(borrow)]
    time: Value<'a>,
    timestamp: Value<'a>,
    #[serde(rename = "@timestamp")]
    at_timestamp: Value<'a>,
    time_iso8601: Value<'a>,
    time_local: Value<'a>,
    ts: Value<'a>,
    method: Value<'a>,
    request_method: Value<'a>,
    request_uri: Value<'a>,
    request: Value<'a>,
    uri: Value<'a>,
    url: Value<'a>,
    path: Value<'a>,
    route: Value<'a>,
    status: Value<'a>,
    response_time_ms: Value<'a>,
    duration_ms: Value<'a>,
    request_time: Value<'a>,
    reqtime: Value<'a>,
    response_time: Value<'a>,
    duration: Value<'a>,
    restime: Value<'a>,
    apptime: Value<'a>,
    service: Value<'a>,
    vhost: Value<'a>,
    trace_id: Value<'a>,
    traceparent: Value<'a>,
}

/// What stands behind a key.
#[derive(Default)]
enum Value<'a> {
    /// No such key, `null`, `""` or `"-"`.
    #[default]
    Nothing,
    Text(Cow<'a, str>),
    Number(f64),
    /// An object: of Caddy's `request`, the two keys that matter.
    Object {
        method: Option<Cow<'a, str>>,
        uri: Option<Cow<'a, str>>,
    },
    /// A list or a truth value.
    Other,
}

impl<'a> Value<'a> {
    fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// As a message would show it.
    fn shown(&self) -> String {
        match self {
            Self::Nothing => "null".to_owned(),
            Self::Text(text) => excerpt(text),
            Self::Number(number) => number.to_string(),
            Self::Object { .. } => "{…}".to_owned(),
            Self::Other => "…".to_owned(),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

/// Takes whatever comes, so that an odd value of one key is judged where it is used and not by serde's words.
struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(if is_absent(text) { Value::Nothing } else { Value::Text(Cow::Borrowed(text)) })
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(if is_absent(text) { Value::Nothing } else { Value::Text(Cow::Owned(text.to_owned())) })
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let (mut method, mut uri) = (None, None);
        while let Some(Text(key)) = object.next_key()? {
            let slot = match &*key {
                "method" => &mut method,
                "uri" => &mut uri,
                _ => {
                    object.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let value = object.next_value::<Value<'de>>()?.into_text();
            if slot.replace(value).is_some() {
                return Err(serde::de::Error::duplicate_field("request"));
            }
        }
        Ok(Value::Object { method: method.flatten(), uri: uri.flatten() })
    }
}

/// A key, borrowed unless it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn read(line: &str) -> Result<Object<'_>, InvalidLine> {
    // serde would also fill the keys from a list, in the order of their declaration.
    if !line.starts_with('{') {
        return Err(match serde_json::from_str::<IgnoredAny>(line) {
            Ok(_) => InvalidLine::NotAnObject,
            Err(error) => InvalidLine::NotJson { column: column(line, &error) },
        });
    }
    serde_json::from_str(line).map_err(|error| match error.classify() {
        // All values are taken as they come, so a key given twice is all that can be wrong with the content.
        Category::Data => {
            InvalidLine::GivenTwice { field: format!("the key that ends at character {}", column(line, &error)) }
        }
        Category::Syntax | Category::Eof | Category::Io => InvalidLine::NotJson { column: column(line, &error) },
    })
}

/// serde_json counts bytes; people count characters.
fn column(line: &str, error: &serde_json::Error) -> usize {
    let bytes = error.column();
    line.char_indices().take_while(|(at, _)| *at < bytes).count()
}

/// Reads one line, without its end and not empty.
pub(super) fn parse(line: &str) -> Result<LogLine<'_>, InvalidLine> {
    let object = read(line)?;
    let timestamp = object.instant()?;
    let response_time_ms = object.response_time()?;
    let status = match &object.status {
        Value::Nothing => {
            return Err(InvalidLine::Missing { part: "status (key `status`)" });
        }
        Value::Text(text) => status(text)?,
        Value::Number(number) => status(&number.to_string())?,
        other => {
            return Err(InvalidLine::InvalidStatus { found: other.shown() });
        }
    };
    let service = first([object.service, object.vhost]).into_text();
    let trace_id = match (object.trace_id, object.traceparent) {
        (Value::Text(trace), _) => Some(trace),
        (_, Value::Text(parent)) => within(parent, trace_of),
        _ => None,
    };
    let (method, path) = Requested {
        method: first([object.method, object.request_method]),
        request_uri: object.request_uri,
        request: object.request,
        other: first([object.uri, object.url, object.path]),
    }
    .method_and_path()?;
    Ok(LogLine { timestamp, service, method, path, status, response_time_ms, trace_id })
}

/// Whether the line is rather one of this service's own request records than an access log; see [`super::detect`].
pub(super) fn is_request_record(line: &str) -> bool {
    let Ok(object) = read(line) else {
        return false;
    };
    let is_instant = match &object.timestamp {
        Value::Text(text) => text.as_bytes().get(4) == Some(&b'-'),
        Value::Number(number) => number.fract() == 0.0 && *number >= timestamp::MILLISECONDS_FROM,
        _ => false,
    };
    let in_seconds = [
        &object.request_time,
        &object.reqtime,
        &object.response_time,
        &object.duration,
        &object.restime,
        &object.apptime,
    ];
    is_instant
        && (!object.route.is_nothing()
            || (!object.path.is_nothing()
                && matches!(object.status, Value::Number(_))
                && in_seconds.into_iter().all(Value::is_nothing)))
}

impl Object<'_> {
    fn instant(&self) -> Result<DateTime<Utc>, InvalidLine> {
        let value = [&self.time, &self.timestamp, &self.at_timestamp, &self.time_iso8601, &self.time_local, &self.ts]
            .into_iter()
            .find(|value| !value.is_nothing())
            .ok_or(InvalidLine::Missing {
                part: "time (keys `time`, `timestamp`, `@timestamp`, `time_iso8601`, `time_local`, `ts`)",
            })?;
        let instant = match value {
            Value::Text(text) => return timestamp::parse(text),
            Value::Number(number) => timestamp::since_1970(*number),
            _ => None,
        };
        instant.ok_or_else(|| InvalidLine::InvalidTimestamp { found: value.shown() })
    }

    /// The response time in milliseconds.
    fn response_time(&self) -> Result<Option<f64>, InvalidLine> {
        for (field, value) in [("`response_time_ms`", &self.response_time_ms), ("`duration_ms`", &self.duration_ms)] {
            if let Some(time) = time_in(field, value, |text| duration::fine(field, text, 1.0), |ms| ms)? {
                return Ok(Some(time));
            }
        }
        for (field, value) in [
            ("`request_time`", &self.request_time),
            ("`reqtime`", &self.reqtime),
            ("`response_time`", &self.response_time),
            ("`duration`", &self.duration),
            ("`restime`", &self.restime),
            ("`apptime`", &self.apptime),
        ] {
            if let Some(time) = time_in(field, value, |text| duration::seconds(field, text), duration::from_seconds)? {
                return Ok(Some(time));
            }
        }
        Ok(None)
    }
}

/// The milliseconds of one key, by the two ways in which its unit is read.
fn time_in(
    field: &'static str,
    value: &Value<'_>,
    of_text: impl Fn(&str) -> Result<Option<f64>, InvalidLine>,
    of_number: impl Fn(f64) -> f64,
) -> Result<Option<f64>, InvalidLine> {
    match value {
        Value::Nothing => Ok(None),
        Value::Text(text) => of_text(text),
        Value::Number(number) => duration::checked(field, number, of_number(*number)).map(Some),
        Value::Object { .. } | Value::Other => Err(InvalidLine::InvalidTime { field, found: value.shown() }),
    }
}

/// All that a line may say of the request.
struct Requested<'a> {
    method: Value<'a>,
    request_uri: Value<'a>,
    request: Value<'a>,
    other: Value<'a>,
}

impl<'a> Requested<'a> {
    fn method_and_path(self) -> Result<(Cow<'a, str>, Cow<'a, str>), InvalidLine> {
        let mut reason = None;
        let (line_method, line_path) = match self.request {
            Value::Text(line) => match split(line) {
                Ok((method, path)) => (Some(method), Some(path)),
                // Other keys may say it all, so this is only told when they do not.
                Err(invalid) => {
                    reason = Some(invalid);
                    (None, None)
                }
            },
            Value::Object { method, uri } => (method, uri),
            _ => (None, None),
        };
        let method = self.method.into_text().or(line_method);
        let path = self.request_uri.into_text().or(line_path).or(self.other.into_text());
        match (method, path) {
            (Some(method), Some(path)) => {
                if request::is_method(&method) && request::is_target(&path) {
                    Ok((method, path))
                } else {
                    Err(InvalidLine::InvalidRequest { found: excerpt(&format!("{method} {path}")) })
                }
            }
            (None, _) => {
                Err(reason
                    .unwrap_or(InvalidLine::Missing { part: "method (keys `method`, `request_method`, `request`)" }))
            }
            (Some(_), None) => Err(reason.unwrap_or(InvalidLine::Missing {
                part: "path (keys `request_uri`, `request`, `uri`, `url`, `path`)",
            })),
        }
    }
}

/// The first value that is something.
fn first<'a, const N: usize>(values: [Value<'a>; N]) -> Value<'a> {
    values.into_iter().find(|value| !value.is_nothing()).unwrap_or_default()
}

/// Takes a request line apart, borrowing if it is borrowed.
fn split(line: Cow<'_, str>) -> Result<(Cow<'_, str>, Cow<'_, str>), InvalidLine> {
    match line {
        Cow::Borrowed(line) => request::split(line).map(|(method, path)| (Cow::Borrowed(method), Cow::Borrowed(path))),
        Cow::Owned(line) => {
            request::split(&line).map(|(method, path)| (Cow::Owned(method.to_owned()), Cow::Owned(path.to_owned())))
        }
    }
}

/// A part of a text, borrowing if the text is borrowed.
fn within<'a>(text: Cow<'a, str>, part: fn(&str) -> Option<&str>) -> Option<Cow<'a, str>> {
    match text {
        Cow::Borrowed(text) => part(text).map(Cow::Borrowed),
        Cow::Owned(text) => part(&text).map(|part| Cow::Owned(part.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line that has all it needs, and what is given besides.
    fn with(more: &str) -> String {
        format!(r#"{{"time":"2026-11-02T08:15:01Z","method":"GET","uri":"/a","status":200{more}}}"#)
    }

    fn time(more: &str) -> Result<Option<f64>, InvalidLine> {
        parse(&with(more)).map(|line| line.response_time_ms)
    }

    #[test]
    fn each_key_of_a_response_time_has_its_unit() {
        assert_eq!(time(""), Ok(None));
        for key in ["request_time", "reqtime", "response_time", "duration", "restime", "apptime"] {
            assert_eq!(time(&format!(r#","{key}":0.057"#)), Ok(Some(57.0)), "{key}");
            assert_eq!(time(&format!(r#","{key}":"0.057""#)), Ok(Some(57.0)), "{key}");
        }
        for key in ["response_time_ms", "duration_ms"] {
            assert_eq!(time(&format!(r#","{key}":12.7"#)), Ok(Some(12.7)), "{key}");
            assert_eq!(time(&format!(r#","{key}":"12.7""#)), Ok(Some(12.7)), "{key}");
        }
    }

    #[test]
    fn nothing_is_written_in_four_ways() {
        for nothing in ["null", r#""""#, r#""-""#, r#""-, -""#] {
            let more = format!(r#","request_time":{nothing},"response_time":0.5"#);
            assert_eq!(time(&more), Ok(Some(500.0)), "{nothing}");
        }
    }

    #[test]
    fn a_response_time_that_is_none_rejects_the_line() {
        for value in ["-1", r#""-1""#, "-0.5"] {
            let result = time(&format!(r#","response_time":{value}"#));
            assert!(matches!(result, Err(InvalidLine::NegativeTime { .. })), "{value}");
        }
        for value in ["true", "[1]", "{}", r#""5ms""#, r#""nan""#] {
            let result = time(&format!(r#","duration":{value}"#));
            assert!(matches!(result, Err(InvalidLine::InvalidTime { .. })), "{value}");
        }
    }

    #[test]
    fn caddys_own_log_is_read_with_its_request_in_an_object() {
        let line = parse(include_str!("samples/caddy.log").trim()).unwrap();
        assert_eq!((&*line.method, &*line.path), ("GET", "/items/7?colour=red"));
        assert_eq!(line.response_time_ms, Some(0.93));
        assert_eq!(line.timestamp.timestamp_millis(), 1_793_603_701_524);
        assert_eq!(line.service, None);
    }

    #[test]
    fn the_target_as_sent_counts_before_what_the_server_made_of_it() {
        let line = with(r#","request":"GET /sent?q=1 HTTP/1.1""#);
        assert_eq!(parse(&line).unwrap().path, "/sent?q=1");
        let line = with(r#","request_uri":"/sent?q=1","path":"/made""#);
        assert_eq!(parse(&line).unwrap().path, "/sent?q=1");
    }

    #[test]
    fn service_and_trace_are_read_where_they_are_named() {
        let line = with(
            r#","host":"web-3","vhost":"shop","trace_id":"","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01""#,
        );
        let line = parse(&line).unwrap();
        assert_eq!(line.service.as_deref(), Some("shop"));
        assert_eq!(line.trace_id.as_deref(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        assert_eq!(parse(&with(r#","host":"web-3""#)).unwrap().service, None);
    }

    #[test]
    fn escaped_text_is_unescaped() {
        let line = with(r#","request_uri":"\/caf\u00e9\"""#);
        assert_eq!(parse(&line).unwrap().path, "/café\"");
    }

    #[test]
    fn a_status_is_three_digits_as_number_or_text() {
        for status in ["99", "1000", "200.5", "-200", r#""-""#, r#""abc""#, "null", "true", "[200]"] {
            let line = with("").replace("200", status);
            assert!(
                matches!(parse(&line), Err(InvalidLine::InvalidStatus { .. } | InvalidLine::Missing { .. })),
                "{status}"
            );
        }
        assert_eq!(parse(&with("").replace("200", "\"404\"")).unwrap().status, 404);
    }

    #[test]
    fn a_list_is_not_read_as_an_object() {
        assert_eq!(parse(r#"["2026-11-02T08:15:01Z","GET","/a",200]"#).err(), Some(InvalidLine::NotAnObject));
        assert_eq!(parse("7").err(), Some(InvalidLine::NotAnObject));
    }

    #[test]
    fn what_is_not_json_says_where() {
        assert_eq!(parse(r#"{"é":1,x}"#).err(), Some(InvalidLine::NotJson { column: 8 }));
        assert!(matches!(parse("GET /"), Err(InvalidLine::NotJson { .. })));
        let line = with("");
        assert!(matches!(parse(&line[..line.len() - 1]), Err(InvalidLine::NotJson { .. })));
        assert!(matches!(parse(&format!("{line} {line}")), Err(InvalidLine::NotJson { .. })));
    }

    #[test]
    fn a_key_given_twice_rejects_the_line() {
        let twice = with(r#","uri":"/b""#);
        assert!(matches!(parse(&twice), Err(InvalidLine::GivenTwice { .. })));
        assert!(parse(&with(r#","ua":"a","ua":"b""#)).is_ok());
    }

    #[test]
    fn a_connection_without_a_request_is_rejected() {
        let line = r#"{"time":"2026-11-02T08:15:01Z","request":"- - -","status":408}"#;
        assert_eq!(parse(line), Err(InvalidLine::NoRequest));
    }
}
