//! Access logs of web servers: from one line of text to the request it tells of.
//!
//! Decides: which format a file is in ([`detect`]), what a line says ([`parse`]), and in whose words a line is turned down
//! ([`InvalidLine`]). Every part of a line is found by its own marks (brackets, quotation marks, labels), never by counting
//! words, so that a broken line is rejected and never read with its columns shifted.
//!
//! Does not decide: whether a request is acceptable as a record (names too long, times too far away, a route made of a
//! path): that is the domain's. It opens no file and knows no line numbers; bytes that are not UTF-8 were replaced before.
//!
//! | module | holds |
//! |---|---|
//! | `combined` | NCSA common and combined, with what servers write behind them |
//! | `ltsv` | labelled tab-separated values |
//! | `json` | one JSON object a line |
//! | `request` | the request line `GET /path HTTP/1.1`, and the escapes of Apache and nginx |
//! | `timestamp` | the three ways to write an instant |
//! | `duration` | response times, and the lists that nginx makes of them |
//! | `detect` | the guess at the format |

mod combined;
mod detect;
mod duration;
mod json;
mod ltsv;
mod request;
mod timestamp;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};

pub use detect::{LINES_LOOKED_AT, detect};

/// One request as a log line tells it: not yet validated as a request record.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLine<'a> {
    /// When the request was made or logged, whichever the server writes.
    pub timestamp: DateTime<Utc>,
    /// The service that answered, where the line names one beyond doubt: LTSV and JSON `service`, else `vhost`; the virtual
    /// host that Apache's `vhost_combined` puts first. Never `host`: it is the client in one log and the machine in another.
    pub service: Option<Cow<'a, str>>,
    /// The method as logged: ASCII letters, `-` and `_`, beginning with a letter.
    pub method: Cow<'a, str>,
    /// The request target as logged, query string and all; not empty. Escapes of the log format are undone (`\x22` is `"`
    /// again), but escaped control characters stay escaped. Bytes that are not UTF-8 have become U+FFFD.
    pub path: Cow<'a, str>,
    /// The status, 100 to 999.
    pub status: u16,
    /// How long the request took, in milliseconds; finite, not negative, rounded to the microsecond when the line gives
    /// seconds. `None` when the line does not say.
    pub response_time_ms: Option<f64>,
    /// The trace: LTSV and JSON `trace_id`, else the trace part of `traceparent`.
    pub trace_id: Option<Cow<'a, str>>,
}

/// How the lines of a file are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// A web server's access log: each line is for [`parse`].
    Log(LogFormat),
    /// This service's own request records, one JSON object a line, as `POST`ed to it: not read here.
    Ndjson,
}

/// The formats of access logs that [`parse`] reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// NCSA common and combined, as Apache, nginx and others write them, with or without a request time at the end.
    Combined,
    /// Labelled tab-separated values, with the labels that ltsv.org recommends.
    Ltsv,
    /// One JSON object a line, with the keys that nginx, Caddy and alp users choose.
    Json,
}

impl Format {
    /// Every format, in the order in which messages list them.
    pub const ALL: [Self; 4] =
        [Self::Log(LogFormat::Combined), Self::Log(LogFormat::Ltsv), Self::Log(LogFormat::Json), Self::Ndjson];

    /// The name by which [`FromStr`] knows it: lower case, one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Log(LogFormat::Combined) => "combined",
            Self::Log(LogFormat::Ltsv) => "ltsv",
            Self::Log(LogFormat::Json) => "json",
            Self::Ndjson => "ndjson",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no [`Format`]'s; the message lists those that are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a log format: use combined (or common), ltsv, json or ndjson")]
pub struct UnknownFormat {
    /// The name as given, cut if it is long.
    pub given: String,
}

impl FromStr for Format {
    type Err = UnknownFormat;

    /// Knows the names of [`Format::ALL`] and, for `combined`, also `common`; case does not matter.
    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let wanted = match name {
            _ if name.eq_ignore_ascii_case("common") => "combined",
            _ => name,
        };
        Self::ALL
            .into_iter()
            .find(|format| format.name().eq_ignore_ascii_case(wanted))
            .ok_or_else(|| UnknownFormat { given: excerpt(name) })
    }
}

/// Why a line was turned down, in words for the person whose log it is. Positions count characters from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLine {
    /// Nothing but white space.
    #[error("the line is empty")]
    Empty,
    /// A line that begins with a quotation mark was quoted as a whole by some export; its inner quotation marks can no
    /// longer be trusted, so it is not guessed at.
    #[error("the line begins with a quotation mark, as if all of it had been quoted")]
    OuterQuotes,
    /// A part without which the line is no request.
    #[error("the line has no {part}")]
    Missing {
        /// The part, and for labelled formats the label that would hold it.
        part: &'static str,
    },
    /// A quotation mark that is never closed.
    #[error("the quotation mark at character {column} is never closed")]
    UnterminatedQuote {
        /// Where the open quotation mark stands.
        column: usize,
    },
    /// A quotation mark in the middle of a field, so that where the field ends is anybody's guess.
    #[error("there is a quotation mark inside a field, at character {column}")]
    StrayQuote {
        /// Where that quotation mark stands.
        column: usize,
    },
    /// A time of day that cannot be read, does not exist, or says nothing of its time zone.
    #[error(
        "the time of the request `{found}` is not a date with a time zone, such as 17/May/2015:10:05:03 +0000 or 2015-05-17T10:05:03Z"
    )]
    InvalidTimestamp {
        /// What stands there, cut if it is long.
        found: String,
    },
    /// The server logged a connection on which no request came: `"-"`, `""`.
    #[error("the server received no request on this connection: the request is empty or `-`")]
    NoRequest,
    /// A request that is not method, target and protocol: often TLS spoken to a plain port.
    #[error("the request `{found}` is not of the form GET /path HTTP/1.1")]
    InvalidRequest {
        /// What stands there, cut if it is long.
        found: String,
    },
    /// A status that is not a number of three digits.
    #[error("the status `{found}` is not a number from 100 to 999")]
    InvalidStatus {
        /// What stands there, cut if it is long.
        found: String,
    },
    /// What should be the size of the response is not: columns may be missing, so nothing behind it is trusted.
    #[error("the size of the response `{found}` is neither a number nor `-`")]
    InvalidSize {
        /// What stands there, cut if it is long.
        found: String,
    },
    /// A response time below zero.
    #[error("the response time in {field} is negative: `{found}`")]
    NegativeTime {
        /// The label or key, or where in the line.
        field: &'static str,
        /// What stands there, cut if it is long.
        found: String,
    },
    /// A field that is there for the response time and holds something else.
    #[error("the response time in {field} is not a number: `{found}`")]
    InvalidTime {
        /// The label or key, or where in the line.
        field: &'static str,
        /// What stands there, cut if it is long.
        found: String,
    },
    /// LTSV: a field that is not `label:value`.
    #[error("field {number} of the line, `{found}`, has no label")]
    NoLabel {
        /// Which field, from 1.
        number: usize,
        /// What stands there, cut if it is long.
        found: String,
    },
    /// LTSV and JSON: the same label or key twice; which one is meant cannot be told.
    #[error("{field} is given twice")]
    GivenTwice {
        /// The label, or for JSON where the second one ends.
        field: String,
    },
    /// The line is not JSON, often because it was cut or because the server does not escape quotation marks.
    #[error("the line is not valid JSON from character {column} on")]
    NotJson {
        /// Where JSON ends, as the reader noticed it.
        column: usize,
    },
    /// JSON, but a list, a word or a number.
    #[error("the line is not a JSON object")]
    NotAnObject,
}

/// Reads one line of an access log. White space around it, a line end and a byte order mark are ignored.
///
/// # Errors
/// [`InvalidLine`] with the first thing found wrong. Never panics, whatever the line.
pub fn parse(format: LogFormat, line: &str) -> Result<LogLine<'_>, InvalidLine> {
    let line = bare(line);
    if line.is_empty() {
        return Err(InvalidLine::Empty);
    }
    match format {
        LogFormat::Combined => combined::parse(line),
        LogFormat::Ltsv => ltsv::parse(line),
        LogFormat::Json => json::parse(line),
    }
}

/// The line without its end, a byte order mark (first lines of files from Windows have one), and space around it.
fn bare(line: &str) -> &str {
    line.trim_start_matches('\u{feff}').trim()
}

/// Longest piece of a line that a message repeats, in characters: enough to recognise it, too short to flood a terminal.
const EXCERPT: usize = 40;

/// The beginning of `text`, with control characters made harmless, to be shown in a message.
fn excerpt(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(EXCERPT) {
        match c {
            // Harmless, and clearer to a reader without the backslash that Rust would put before them.
            '"' | '\'' | '\\' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(EXCERPT).is_some() {
        shown.push('…');
    }
    shown
}

/// Reads a status as text.
fn status(text: &str) -> Result<u16, InvalidLine> {
    // Digits are asked for on their own, since `u16::from_str` would let `+20` pass.
    match text.parse() {
        Ok(status @ 100..=999) if text.len() == 3 && !text.starts_with('+') => Ok(status),
        _ => Err(InvalidLine::InvalidStatus { found: excerpt(text) }),
    }
}

/// Servers write `-` for what they do not know.
fn is_absent(text: &str) -> bool {
    matches!(text, "" | "-")
}

/// The trace of a W3C `traceparent`, `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`; `None` if it is not one, or if it
/// is all zeros, which stands for no trace.
fn trace_of(traceparent: &str) -> Option<&str> {
    let mut parts = traceparent.splitn(4, '-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let is_trace = version.len() == 2
        && trace.len() == 32
        && trace.bytes().all(|b| b.is_ascii_hexdigit())
        && trace.bytes().any(|b| b != b'0');
    (is_trace && parts.next()?.len() == 16).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COMBINED: &str = include_str!("samples/same_requests_combined.log");
    const LTSV: &str = include_str!("samples/same_requests_ltsv.log");
    const JSON: &str = include_str!("samples/same_requests_json.log");

    fn all(format: LogFormat, text: &str) -> Vec<LogLine<'_>> {
        text.lines().map(|line| parse(format, line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
    }

    #[test]
    fn the_same_requests_are_the_same_in_every_format() {
        let combined = all(LogFormat::Combined, COMBINED);
        assert_eq!(combined, all(LogFormat::Ltsv, LTSV));
        assert_eq!(combined, all(LogFormat::Json, JSON));
        let times: Vec<_> = combined.iter().map(|line| line.response_time_ms).collect();
        assert_eq!(times, [Some(57.0), Some(9.0), Some(30_004.0), None, Some(321.0)]);
        assert_eq!(combined[2].path, "/search?q=\"blue%20cup\"");
        assert_eq!(combined[2].timestamp.to_rfc3339(), "2026-11-02T07:15:02+00:00");
    }

    #[test]
    fn a_plain_line_is_borrowed() {
        for (format, text) in [(LogFormat::Combined, COMBINED), (LogFormat::Ltsv, LTSV), (LogFormat::Json, JSON)] {
            let line = &all(format, text)[0];
            assert!(matches!(line.path, Cow::Borrowed(_)), "{format:?}");
        }
    }

    #[test]
    fn line_ends_and_a_byte_order_mark_are_ignored() {
        for (format, text) in [(LogFormat::Combined, COMBINED), (LogFormat::Ltsv, LTSV), (LogFormat::Json, JSON)] {
            let line = text.lines().next().unwrap();
            assert_eq!(parse(format, &format!("\u{feff}{line}\r\n")), parse(format, line));
        }
    }

    #[test]
    fn an_empty_line_has_its_own_reason() {
        for line in ["", " ", "\r\n", "\u{feff}"] {
            assert_eq!(parse(LogFormat::Combined, line), Err(InvalidLine::Empty));
        }
    }

    #[test]
    fn every_format_is_known_by_its_name() {
        for format in Format::ALL {
            assert_eq!(format.name().parse(), Ok(format));
            assert_eq!(format.to_string().to_uppercase().parse(), Ok(format));
        }
        assert_eq!("common".parse(), Ok(Format::Log(LogFormat::Combined)));
        let message = "xml".parse::<Format>().unwrap_err().to_string();
        for format in Format::ALL {
            assert!(message.contains(format.name()), "{message}");
        }
    }

    #[test]
    fn messages_repeat_little_of_the_line_and_no_control_characters() {
        let long = format!("[\u{1b}[31m{}] \"", "x".repeat(10_000));
        let message = parse(LogFormat::Combined, &long).unwrap_err().to_string();
        assert!(message.chars().count() < 300, "{message}");
        assert!(!message.contains('\u{1b}'), "{message}");
    }

    #[test]
    fn a_trace_is_taken_only_from_a_whole_traceparent() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace_of(&format!("00-{trace}-00f067aa0ba902b7-01")), Some(trace));
        for wrong in ["", "-", trace, "00-4bf9-00f067aa0ba902b7-01", "00-ä"] {
            assert_eq!(trace_of(wrong), None, "{wrong}");
        }
        let zeros = "0".repeat(32);
        assert_eq!(trace_of(&format!("00-{zeros}-00f067aa0ba902b7-01")), None);
    }

    /// A line of one of the samples, and its format.
    fn sample_line() -> impl Strategy<Value = (LogFormat, &'static str)> {
        let lines: Vec<_> = [
            (LogFormat::Combined, COMBINED),
            (LogFormat::Combined, include_str!("samples/ingress_nginx.log")),
            (LogFormat::Combined, include_str!("samples/traefik.log")),
            (LogFormat::Ltsv, LTSV),
            (LogFormat::Json, JSON),
            (LogFormat::Json, include_str!("samples/caddy.log")),
        ]
        .into_iter()
        .flat_map(|(format, text)| text.lines().map(move |line| (format, line)))
        .collect();
        proptest::sample::select(lines)
    }

    /// What must hold of anything that was read, from whatever line.
    fn assert_sound(line: &str, read: &LogLine<'_>) {
        assert!((100..=999).contains(&read.status));
        assert!(read.response_time_ms.is_none_or(|ms| ms.is_finite() && ms >= 0.0));
        assert!(!read.method.is_empty() && !read.path.is_empty());
        assert!(line.contains(&*read.method), "{line:?} {read:?}");
        assert!(line.contains(&read.status.to_string()), "{line:?} {read:?}");
        if let Cow::Borrowed(path) = read.path {
            assert!(line.contains(path), "{line:?} {read:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(line in any::<String>()) {
            for format in [LogFormat::Combined, LogFormat::Ltsv, LogFormat::Json] {
                if let Ok(read) = parse(format, &line) {
                    assert_sound(&line, &read);
                }
            }
            detect(&[&line]);
        }

        #[test]
        fn a_damaged_line_is_rejected_or_read_soundly(
            (format, line) in sample_line(),
            damage in prop::collection::vec(
                (any::<prop::sample::Index>(), any::<prop::sample::Index>(),
                 "[\"\\\\\\[\\] \t:,.0-9a-zé{}-]{0,3}"),
                1..4,
            ),
        ) {
            let mut characters: Vec<char> = line.chars().collect();
            for (from, to, put) in &damage {
                let length = characters.len() + 1;
                let from = from.index(length);
                let to = (from + to.index(4)).min(characters.len());
                characters.splice(from..to, put.chars());
            }
            let damaged: String = characters.into_iter().collect();
            if let Ok(read) = parse(format, &damaged) {
                assert_sound(&damaged, &read);
            }
        }

        #[test]
        fn what_is_put_into_a_line_comes_out_of_its_own_column(
            method in "[A-Z]{1,7}",
            path in "/[ -~é]{0,20}",
            status in 100_u16..1000,
            agent in "[ -~é]{0,20}",
            user in "[!-\\[\\]-~]{1,3}( [!-\\[\\]-~]{1,3}){0,2}",
            micros in 0_u32..100_000_000,
        ) {
            // As nginx escapes: nothing of a client's can end a field.
            let escape = |text: &str| text.replace('\\', "\\x5C").replace('"', "\\x22");
            let path = path.trim_end();
            let seconds = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
            let (url, agent, user) = (escape(path), escape(&agent), escape(&user));
            let combined = format!(
                "10.0.0.1 - {user} [02/Nov/2026:08:15:01 +0000] \"{method} {url} HTTP/1.1\" {status} 5 \"{agent}\" \"{agent}\" {seconds}"
            );
            let ltsv = format!(
                "ua:{agent}\ttime:02/Nov/2026:08:15:01 +0000\treq:{method} {url} HTTP/1.1\tstatus:{status}\treqtime:{seconds}"
            );
            let json = serde_json::json!({
                "ua": agent, "time": "2026-11-02T08:15:01Z", "request": format!("{method} {path} HTTP/1.1"),
                "status": status, "request_time": seconds.parse::<f64>().unwrap(),
            })
            .to_string();
            for (format, line) in [
                (LogFormat::Combined, &combined),
                (LogFormat::Ltsv, &ltsv),
                (LogFormat::Json, &json),
            ] {
                let read = parse(format, line).unwrap_or_else(|e| panic!("{line}: {e}"));
                prop_assert_eq!(&*read.method, &method);
                prop_assert_eq!(&*read.path, path);
                prop_assert_eq!(read.status, status);
                prop_assert_eq!(read.response_time_ms, Some(f64::from(micros) / 1e3));
                prop_assert_eq!(&read.service, &None);
                prop_assert_eq!(read.timestamp.timestamp(), 1_793_607_301);
            }
        }
    }
}
