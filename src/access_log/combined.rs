//! NCSA common and combined: `host ident user [17/May/2015:10:05:03 +0000] "GET /path HTTP/1.1" 200 123 "referer" "agent"`
//! and whatever a server was told to write behind it.
//!
//! The time is found by its brackets in front of the request's quotation mark, so a user name may hold spaces. From there
//! on every field is read to the end of the line: one that is broken rejects the line. A line that begins with a quotation
//! mark (all of it quoted by an export) is rejected too.
//!
//! Decides which of the fields behind the size is the response time, by the first of these that applies:
//! 1. `rt=` or `request_time=` names it, in seconds.
//! 2. Decimals such as `0.057` are seconds (nginx), lists of them such as `0.100, 0.004` are one sum (nginx's upstreams),
//!    and `57ms` is milliseconds (Traefik). Of several, the longest: `$request_time` spans all of the request, so it is
//!    never shorter than `$upstream_response_time`, on whichever side of it that stands.
//! 3. A whole number is Apache's `%D`, microseconds, but only as the one unquoted field there is, at the end of the line:
//!    two of them are the byte counts `%I %O` of Apache's `combinedio`. Apache's `%T`, whole seconds, looks like `%D` and
//!    would be read wrong; it is too coarse for statistics anyway.
//!
//! A quoted field is never a response time: what is quoted comes from the client, who could then choose it.

use std::borrow::Cow;
use std::net::IpAddr;

use super::duration::{self, Listed};
use super::{InvalidLine, LogLine, excerpt, is_absent, request, status, timestamp};

/// How messages call the response time, which has no label here.
const BEHIND_THE_SIZE: &str = "the last fields";

/// Seconds from which a decimal is no response time but the reading of a clock, such as nginx's `$msec`: three years.
const CLOCK_READING: f64 = 1e8;

/// Reads one line, without its end and not empty.
pub(super) fn parse(line: &str) -> Result<LogLine<'_>, InvalidLine> {
    if line.starts_with('"') {
        return Err(InvalidLine::OuterQuotes);
    }
    // Servers escape quotation marks in user names, so nothing before the time can look like this.
    let Some(closing) = line.find("] \"") else {
        return Err(InvalidLine::Missing {
            part: if line.contains('[') {
                "request in quotation marks behind its time"
            } else {
                "time in square brackets"
            },
        });
    };
    let Some((before, time)) = line[..closing].rsplit_once('[') else {
        return Err(InvalidLine::Missing { part: "time in square brackets" });
    };
    let timestamp = timestamp::parse(time)?;

    let mut fields = Fields { line, at: closing + 1 };
    let (method, target) = match fields.next()? {
        Some(Field::Quoted(request)) => request::split(request)?,
        _ => {
            return Err(InvalidLine::Missing { part: "request in quotation marks behind its time" });
        }
    };
    let status = match fields.next()? {
        Some(Field::Bare(text)) => status(text)?,
        Some(Field::Quoted(text)) => {
            return Err(InvalidLine::InvalidStatus { found: excerpt(text) });
        }
        None => return Err(InvalidLine::Missing { part: "status" }),
    };
    match fields.next()? {
        Some(Field::Bare(size)) if size == "-" || size.bytes().all(|b| b.is_ascii_digit()) => {}
        Some(Field::Bare(text) | Field::Quoted(text)) => {
            return Err(InvalidLine::InvalidSize { found: excerpt(text) });
        }
        None => {
            return Err(InvalidLine::Missing { part: "size of the response" });
        }
    }
    Ok(LogLine {
        timestamp,
        service: virtual_host(before).map(Cow::Borrowed),
        method: Cow::Borrowed(method),
        path: request::decode(target),
        status,
        response_time_ms: response_time(fields)?,
        trace_id: None,
    })
}

/// The virtual host that Apache's `vhost_combined` puts before the client: `shop.example:443 10.0.0.1 - - `.
///
/// Recognised by its port and by being one field too many. An address is no name of a service, and the only thing with a
/// colon that other logs have in this place.
fn virtual_host(before: &str) -> Option<&str> {
    let mut words = before.split_ascii_whitespace();
    let (name, port) = words.next()?.rsplit_once(':')?;
    words.nth(2)?;
    let is_host =
        !is_absent(name) && !name.contains(':') && name.parse::<IpAddr>().is_err() && port.parse::<u16>().is_ok();
    is_host.then_some(name)
}

/// Reads the fields behind the size, all of them, for the response time in milliseconds; see the head of this file.
fn response_time(mut fields: Fields<'_>) -> Result<Option<f64>, InvalidLine> {
    let mut labelled = None;
    let mut longest: Option<f64> = None;
    let mut bare_fields = 0;
    let mut last_whole = None;
    while let Some(field) = fields.next()? {
        last_whole = None;
        let Field::Bare(text) = field else { continue };
        bare_fields += 1;
        // A cheap look at the first byte spares the rest for most fields: times begin with a digit, a `-`, or their label.
        if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | 'r')) {
            continue;
        }
        if let Some((label, value)) = text.split_once('=') {
            if matches!(label, "rt" | "request_time") {
                labelled = duration::seconds("rt= or request_time=", value)?;
            }
        } else if text.bytes().all(|b| b.is_ascii_digit()) {
            last_whole = Some(text);
        } else if let Some(number) = text.strip_suffix("ms") {
            if duration::is_negative(number) {
                return Err(duration::negative(BEHIND_THE_SIZE, text));
            }
            if let Some(milliseconds) = duration::plain_number(number).filter(|ms| ms.is_finite()) {
                longest = Some(longest.map_or(milliseconds, |other| other.max(milliseconds)));
            }
        } else {
            match Listed::read(text) {
                // A list without a point is one of ports, statuses or sizes.
                Listed::Sum(seconds) if text.contains('.') && seconds < CLOCK_READING => {
                    let milliseconds = duration::from_seconds(seconds);
                    longest = Some(longest.map_or(milliseconds, |other| other.max(milliseconds)));
                }
                Listed::Negative => return Err(duration::negative(BEHIND_THE_SIZE, text)),
                Listed::Sum(_) | Listed::Nothing | Listed::Other => {}
            }
        }
    }
    if labelled.is_some() || longest.is_some() {
        return Ok(labelled.or(longest));
    }
    match last_whole {
        Some(microseconds) if bare_fields == 1 => duration::fine(BEHIND_THE_SIZE, microseconds, 1e3),
        _ => Ok(None),
    }
}

/// One field of a line.
enum Field<'a> {
    /// What stands between quotation marks, escapes and all.
    Quoted(&'a str),
    /// A word without quotation marks, or with some inside (`ua="…"`), or a list of nginx's (`0.100, 0.004 : 0.020`).
    Bare(&'a str),
}

/// Walks over the fields of a line from left to right.
struct Fields<'a> {
    line: &'a str,
    /// The byte at which the next field, or the space before it, begins. Always on an ASCII character or at the end.
    at: usize,
}

impl<'a> Fields<'a> {
    /// The next field, `None` at the end of the line; fails on a quotation mark that is open or out of place.
    fn next(&mut self) -> Result<Option<Field<'a>>, InvalidLine> {
        let start = self.skip_spaces(self.at);
        let end = match self.line.as_bytes().get(start) {
            None => {
                self.at = start;
                return Ok(None);
            }
            Some(b'"') => {
                let end = self.behind_quote(start)?;
                if !matches!(self.line.as_bytes().get(end), None | Some(b' ' | b'\t')) {
                    return Err(self.stray_quote(end - 1));
                }
                self.at = end;
                return Ok(Some(Field::Quoted(&self.line[start + 1..end - 1])));
            }
            Some(_) => self.behind_list(start)?,
        };
        self.at = end;
        Ok(Some(Field::Bare(&self.line[start..end])))
    }

    fn skip_spaces(&self, from: usize) -> usize {
        let spaces = self.line.as_bytes()[from..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        from + spaces
    }

    /// The byte behind the quotation mark that closes the one at `open`.
    fn behind_quote(&self, open: usize) -> Result<usize, InvalidLine> {
        let bytes = self.line.as_bytes();
        let mut at = open + 1;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' => return Ok(at + 1),
                // Whatever is escaped is no end; of a longer escape (`\x22`) the rest is harmless.
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        Err(InvalidLine::UnterminatedQuote { column: self.column(open) })
    }

    /// The byte behind the word at `start`; a quotation mark in it must open a value, as in `ua="…"`.
    fn behind_word(&self, start: usize) -> Result<usize, InvalidLine> {
        let bytes = self.line.as_bytes();
        let mut at = start;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b' ' | b'\t' => break,
                b'"' if bytes[at - 1] == b'=' => {
                    at = self.behind_quote(at)?;
                    if !matches!(bytes.get(at), None | Some(b' ' | b'\t')) {
                        return Err(self.stray_quote(at - 1));
                    }
                }
                b'"' => return Err(self.stray_quote(at)),
                _ => at += 1,
            }
        }
        Ok(at)
    }

    /// The byte behind the word at `start` and all that a comma or a lone colon ties to it.
    fn behind_list(&self, start: usize) -> Result<usize, InvalidLine> {
        let bytes = self.line.as_bytes();
        let mut end = self.behind_word(start)?;
        loop {
            let word = self.skip_spaces(end);
            let is_tied = match bytes.get(word..) {
                None | Some([] | [b'"', ..]) => false,
                Some([b':'] | [b':', b' ', ..]) => true,
                Some(_) => matches!(&bytes[start..end], [.., b','] | [.., b' ', b':']),
            };
            if !is_tied {
                return Ok(end);
            }
            end = self.behind_word(word)?;
        }
    }

    fn stray_quote(&self, at: usize) -> InvalidLine {
        InvalidLine::StrayQuote { column: self.column(at) }
    }

    /// The character, from 1, of which `at` is the first byte.
    fn column(&self, at: usize) -> usize {
        self.line[..at].chars().count() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LogFormat, parse as parse_line};
    use super::*;

    const LINE: &str = r#"10.0.0.1 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 123"#;

    /// The response time of a line that ends like this behind its size.
    fn time(tail: &str) -> Result<Option<f64>, InvalidLine> {
        parse(&format!("{LINE} {tail}")).map(|line| line.response_time_ms)
    }

    /// What a sample file of one line gives.
    fn sample(text: &str) -> Result<LogLine<'_>, InvalidLine> {
        parse_line(LogFormat::Combined, text)
    }

    #[test]
    fn common_and_combined_say_the_same_without_a_time() {
        let common = parse(LINE).unwrap();
        assert_eq!(common.timestamp.to_rfc3339(), "2015-05-17T10:05:03+00:00");
        assert_eq!((&*common.method, &*common.path), ("GET", "/a"));
        assert_eq!((common.status, common.response_time_ms), (200, None));
        assert_eq!((&common.service, &common.trace_id), (&None, &None));
        assert_eq!(parse(&format!(r#"{LINE} "-" "curl/8.5""#)), Ok(common));
    }

    #[test]
    fn a_decimal_at_the_end_is_seconds() {
        assert_eq!(time(r#""-" "curl/8.5" "-" 0.057"#), Ok(Some(57.0)));
        assert_eq!(time("0.057"), Ok(Some(57.0)));
        assert_eq!(time(r#""-" "curl/8.5" -"#), Ok(None));
    }

    #[test]
    fn several_servers_tried_are_added_up() {
        assert_eq!(time(r#""-" "curl/8.5" 0.100, 0.004"#), Ok(Some(104.0)));
        assert_eq!(time(r#""-" "a" 0.100, 0.004 : 0.020"#), Ok(Some(124.0)));
        assert_eq!(time(r#""-" "a" -, 0.004 "-""#), Ok(Some(4.0)));
    }

    #[test]
    fn of_request_time_and_upstream_time_the_longer_counts_on_either_side() {
        assert_eq!(time(r#""-" "a" 0.105 0.100, 0.004"#), Ok(Some(105.0)));
        assert_eq!(time(r#""-" "a" 0.100, 0.004 0.105"#), Ok(Some(105.0)));
        assert_eq!(time(r#""-" "a" - 0.321"#), Ok(Some(321.0)));
        assert_eq!(time(r#""-" "a" 0.321 -"#), Ok(Some(321.0)));
    }

    #[test]
    fn a_named_request_time_counts_before_all_others() {
        let tail = r#""-" "a" "-" sn="shop" rt=0.057 ua="10.0.0.1:80" us="200" ut="9.000" cs=- 9.5"#;
        assert_eq!(time(tail), Ok(Some(57.0)));
        assert_eq!(time("request_time=2"), Ok(Some(2000.0)));
        assert_eq!(time("rt=- 0.5"), Ok(Some(500.0)));
        assert!(matches!(time("rt=abc"), Err(InvalidLine::InvalidTime { .. })));
    }

    #[test]
    fn a_lone_whole_number_is_apaches_microseconds() {
        assert_eq!(time(r#""-" "a" 57123"#), Ok(Some(57.123)));
        assert_eq!(time("57123"), Ok(Some(57.123)));
    }

    #[test]
    fn two_whole_numbers_are_byte_counts_and_no_time() {
        assert_eq!(sample(include_str!("samples/apache_combinedio.log")).unwrap().response_time_ms, None);
    }

    #[test]
    fn a_clock_reading_is_no_response_time() {
        assert_eq!(time(r#""-" "a" 1446504163.123"#), Ok(None));
        assert_eq!(time(r#""-" "a" 1446504163.123 0.057"#), Ok(Some(57.0)));
    }

    #[test]
    fn a_time_of_day_or_an_address_is_no_response_time() {
        assert_eq!(time(r#""-" "a" 10:05:03.5 10.0.0.1:80"#), Ok(None));
    }

    #[test]
    fn a_quoted_number_is_the_clients_and_no_time() {
        assert_eq!(time(r#""-" "9.9" "99.9""#), Ok(None));
    }

    #[test]
    fn a_negative_time_rejects_the_line() {
        for tail in ["-1", "-0.5", "-5ms", r#""-" "a" 0.1, -1"#, "rt=-1"] {
            assert!(matches!(time(tail), Err(InvalidLine::NegativeTime { .. })), "{tail}");
        }
    }

    #[test]
    fn the_request_time_of_ingress_nginx_is_found_among_its_numbers() {
        let line = sample(include_str!("samples/ingress_nginx.log")).unwrap();
        assert_eq!(line.response_time_ms, Some(17.0));
        assert_eq!(line.service, None);
    }

    #[test]
    fn traefik_writes_milliseconds_at_the_end() {
        assert_eq!(sample(include_str!("samples/traefik.log")).unwrap().response_time_ms, Some(5.0));
    }

    #[test]
    fn the_virtual_host_in_front_is_the_service() {
        let line = sample(include_str!("samples/apache_vhost_combined.log")).unwrap();
        assert_eq!(line.service.as_deref(), Some("shop.example"));
    }

    #[test]
    fn clients_and_users_are_not_taken_for_a_service() {
        for before in ["::1 - John Smith", "10.0.0.1:4711 - John Smith", "2001:db8::7 - - -", "shop:443 - -"] {
            let line = LINE.replace("10.0.0.1 - -", before);
            assert_eq!(parse(&line).unwrap().service, None, "{before}");
        }
    }

    #[test]
    fn a_user_may_have_spaces_and_brackets() {
        for user in ["John Smith", "a [b] c", "[17/May/1999:00:00:00 +0000]", r#"\"x\""#] {
            let line = LINE.replace("- - [", &format!("- {user} ["));
            assert_eq!(parse(&line), parse(LINE), "{user}");
        }
    }

    #[test]
    fn an_ipv6_client_is_as_good_as_any() {
        assert_eq!(parse(&LINE.replace("10.0.0.1", "2001:db8::7")), parse(LINE));
    }

    #[test]
    fn escaped_quotation_marks_do_not_end_a_field() {
        let line = r#"::1 - - [17/May/2015:10:05:03 +0000] "GET /say/\"hi\" HTTP/1.1" 200 1 "\\" "a \"b\" c\x22" 0.5"#;
        let line = parse(line).unwrap();
        assert_eq!(line.path, r#"/say/"hi""#);
        assert_eq!(line.response_time_ms, Some(500.0));
    }

    #[test]
    fn an_unterminated_quote_rejects_the_line() {
        let mut reasons = include_str!("samples/unterminated_quote.log").lines().map(sample);
        assert!(reasons.next().unwrap().is_ok());
        assert_eq!(reasons.next().unwrap(), Err(InvalidLine::UnterminatedQuote { column: 81 }));
        assert!(reasons.next().unwrap().is_ok());
    }

    #[test]
    fn a_quotation_mark_inside_a_field_rejects_the_line() {
        for tail in [r#""-" "a "b" c" 0.5"#, r#""-" ab"c 0.5"#, r#""-" x="a"b"#, r#""a""b""#] {
            assert!(matches!(time(tail), Err(InvalidLine::StrayQuote { .. })), "{tail}");
        }
        let request = LINE.replace("/a HTTP", r#"/a"b HTTP"#);
        assert!(matches!(parse(&request), Err(InvalidLine::StrayQuote { .. })));
    }

    #[test]
    fn quotes_around_the_whole_line_reject_it() {
        assert_eq!(parse(&format!("\"{LINE}\"")), Err(InvalidLine::OuterQuotes));
        let doubled = LINE.replace('"', "\"\"");
        assert_eq!(parse(&format!("\"{doubled}\"")), Err(InvalidLine::OuterQuotes));
    }

    #[test]
    fn a_connection_without_a_request_is_rejected_with_its_own_reason() {
        let reasons: Vec<_> = include_str!("samples/no_request.log").lines().map(sample).collect();
        assert_eq!(reasons.len(), 4);
        assert!(reasons[..3].iter().all(|r| *r == Err(InvalidLine::NoRequest)), "{reasons:?}");
        assert!(matches!(reasons[3], Err(InvalidLine::InvalidRequest { .. })));
    }

    #[test]
    fn a_status_or_size_that_is_none_rejects_the_line() {
        for status in ["-", "20", "2000", "099", "+20", "abc", "\"200\""] {
            let line = LINE.replace(" 200 ", &format!(" {status} "));
            assert!(matches!(parse(&line), Err(InvalidLine::InvalidStatus { .. })), "{status}");
        }
        for size in ["abc", "-5", "\"-\"", "1.5"] {
            let line = LINE.replace(" 123", &format!(" {size}"));
            assert!(matches!(parse(&line), Err(InvalidLine::InvalidSize { .. })), "{size}");
        }
        assert!(parse(&LINE.replace(" 123", " -")).is_ok());
    }

    #[test]
    fn a_line_cut_anywhere_before_its_size_is_rejected() {
        let size = LINE.len() - "123".len();
        for end in 0..size {
            assert!(parse(&LINE[..end]).is_err(), "{end}");
        }
    }
}
