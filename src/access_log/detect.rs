//! The guess at the format of a file from its first lines.
//!
//! Decides by trying: a line votes for the format that reads it, and the format with most votes wins. Several lines are
//! asked, since the first may be the broken one, cut off by log rotation. Knows nothing of file names.

use super::{Format, LogFormat, bare, json, parse};

/// How many lines that are not empty [`detect`] looks at: enough to outvote a few broken ones, few enough to cost nothing.
pub const LINES_LOOKED_AT: usize = 20;

/// Guesses the format from the first lines of a file; empty lines do not count. `None` when no line can be read in any
/// format. On a tie the format seen first wins.
///
/// A JSON line is one of this service's own request records ([`Format::Ndjson`]) when it has a `route`; or when it has a
/// `path` and a `timestamp` as records have it (RFC 3339, or whole milliseconds), a status that is a number, and no response
/// time in seconds. Any other JSON that can be read is an access log.
pub fn detect(first_lines: &[&str]) -> Option<Format> {
    let mut votes: Vec<(Format, usize)> = Vec::new();
    let lines = first_lines.iter().map(|line| bare(line));
    for format in lines.filter(|line| !line.is_empty()).take(LINES_LOOKED_AT).filter_map(format_of) {
        match votes.iter_mut().find(|(known, _)| *known == format) {
            Some((_, count)) => *count += 1,
            None => votes.push((format, 1)),
        }
    }
    // `max_by_key` takes the last of equals, hence from behind.
    let most = votes.into_iter().rev().max_by_key(|(_, count)| *count);
    most.map(|(format, _)| format)
}

/// The format that reads this line.
fn format_of(line: &str) -> Option<Format> {
    if line.starts_with('{') && json::is_request_record(line) {
        return Some(Format::Ndjson);
    }
    // No line can be read in two of them: they begin with a brace, begin with a label, or have a time in brackets and then
    // a quotation mark, which LTSV has only inside a value.
    [LogFormat::Json, LogFormat::Ltsv, LogFormat::Combined]
        .into_iter()
        .find(|format| parse(*format, line).is_ok())
        .map(Format::Log)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMBINED: &str = include_str!("samples/same_requests_combined.log");
    const LTSV: &str = include_str!("samples/same_requests_ltsv.log");
    const JSON: &str = include_str!("samples/same_requests_json.log");
    const RECORDS: &str = include_str!("samples/request_records.ndjson");

    fn detected(text: &str) -> Option<Format> {
        detect(&text.lines().collect::<Vec<_>>())
    }

    #[test]
    fn each_format_is_recognised_by_any_one_of_its_lines() {
        for (text, format) in [
            (COMBINED, Format::Log(LogFormat::Combined)),
            (LTSV, Format::Log(LogFormat::Ltsv)),
            (JSON, Format::Log(LogFormat::Json)),
            (include_str!("samples/caddy.log"), Format::Log(LogFormat::Json)),
            (RECORDS, Format::Ndjson),
        ] {
            assert_eq!(detected(text), Some(format));
            for line in text.lines() {
                assert_eq!(detected(line), Some(format), "{line}");
            }
        }
    }

    #[test]
    fn empty_and_broken_first_lines_do_not_mislead() {
        let cut = &COMBINED[40..];
        assert_eq!(detected(&format!("\n \n{cut}")), Some(Format::Log(LogFormat::Combined)));
        assert_eq!(detected(&format!("{{\"a\":\n{RECORDS}")), Some(Format::Ndjson));
    }

    #[test]
    fn most_votes_win_and_a_tie_goes_to_the_first_seen() {
        let (ltsv, json) = (LTSV.lines().next().unwrap(), JSON.lines().next().unwrap());
        assert_eq!(detect(&[ltsv, json, json]), Some(Format::Log(LogFormat::Json)));
        assert_eq!(detect(&[ltsv, json]), Some(Format::Log(LogFormat::Ltsv)));
        assert_eq!(detect(&[json, ltsv]), Some(Format::Log(LogFormat::Json)));
    }

    #[test]
    fn a_record_is_told_from_an_access_log_by_what_records_cannot_have() {
        let record = r#"{"timestamp":"2026-11-02T08:15:01Z","method":"GET","path":"/a","status":200}"#;
        assert_eq!(detected(record), Some(Format::Ndjson));
        for (from, to) in [
            ("\"status\":200", "\"status\":\"200\""),
            ("}", ",\"response_time\":0.5}"),
            ("}", ",\"request_time\":0.5}"),
            ("2026-11-02T08:15:01Z", "02/Nov/2026:08:15:01 +0000"),
            ("\"timestamp\"", "\"time\""),
            ("\"2026-11-02T08:15:01Z\"", "1793603701"),
        ] {
            let line = record.replace(from, to);
            assert_eq!(detected(&line), Some(Format::Log(LogFormat::Json)), "{line}");
        }
    }

    #[test]
    fn what_is_no_log_is_not_guessed_at() {
        assert_eq!(detect(&[]), None);
        assert_eq!(detected("<html>\n<body>\n"), None);
        assert_eq!(detected("a,b,c\n1,2,3"), None);
        assert_eq!(detected("{}\n{\"a\":1}"), None);
    }
}
