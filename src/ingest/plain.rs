//! A record as nearly every client writes it: one flat object on a line, texts without escapes, numbers without exponents.
//!
//! Reading such a line by hand takes a third of the time that a general reader of JSON takes, and reading is the greater
//! part of what a record costs this process. Whatever is not plain, right or wrong, is left to `serde_json`: here nothing is
//! refused and no rule is made. A property below holds the two together.

use std::borrow::Cow;

use super::scalar::{FIELDS, RawRecord, Scalar, field};

/// Digits that a float surely holds: such a number divided by a power of ten is rounded once, so every right way of reading
/// it comes to the same.
const DIGITS_MAX: usize = 15;

/// `10^n`.
const POWERS: [f64; DIGITS_MAX + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// The record at the beginning of `text`, and the text behind its line; `None` if the line is not plain.
pub(super) fn record(text: &str) -> Option<(RawRecord<'_>, &str)> {
    let mut reader = Reader { text, at: 0 };
    let mut record = RawRecord::default();
    let mut seen = [false; FIELDS.len()];
    reader.expect(b'{')?;
    loop {
        reader.skip_spaces();
        reader.expect(b'"')?;
        let key = field(reader.text()?);
        reader.skip_spaces();
        reader.expect(b':')?;
        reader.skip_spaces();
        let value = reader.value()?;
        if let Some(key) = key {
            if std::mem::replace(&mut seen[key], true) {
                return None;
            }
            record.0[key] = value;
        }
        reader.skip_spaces();
        match reader.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    reader.skip_spaces();
    match reader.next() {
        None | Some(b'\n') => Some((record, &text[reader.at..])),
        Some(_) => None,
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    /// JSON's white space but for the line feed, which ends the line.
    fn skip_spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    /// A text up to its closing quotation mark; the opening one has been read.
    fn text(&mut self) -> Option<&'a str> {
        let start = self.at;
        let rest = &self.text.as_bytes()[start..];
        let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
        if rest[end] != b'"' {
            return None;
        }
        self.at = start + end + 1;
        Some(&self.text[start..start + end])
    }

    fn value(&mut self) -> Option<Scalar<'a>> {
        match self.peek()? {
            b'"' => {
                self.at += 1;
                self.text().map(|text| Scalar::Text(Cow::Borrowed(text)))
            }
            b'0'..=b'9' => self.number(),
            b'n' if self.text.as_bytes()[self.at..].starts_with(b"null") => {
                self.at += 4;
                Some(Scalar::Absent)
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Scalar<'a>> {
        let start = self.at;
        let whole = self.digits(0)?;
        let whole_digits = self.at - start;
        if whole_digits > DIGITS_MAX || (whole_digits > 1 && self.text.as_bytes()[start] == b'0') {
            return None;
        }
        let number = if self.peek() == Some(b'.') {
            self.at += 1;
            let behind_the_point = self.at;
            let significand = self.digits(whole)?;
            let fraction_digits = self.at - behind_the_point;
            if fraction_digits == 0 || whole_digits + fraction_digits > DIGITS_MAX {
                return None;
            }
            Scalar::Number(significand as f64 / POWERS[fraction_digits])
        } else {
            Scalar::Integer(whole)
        };
        (!matches!(self.peek(), Some(b'e' | b'E'))).then_some(number)
    }

    /// `number` with the digits behind it appended; `None` where they are too many to hold.
    fn digits(&mut self, mut number: i64) -> Option<i64> {
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            number = number.checked_mul(10)?.checked_add(i64::from(digit - b'0'))?;
            self.at += 1;
        }
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::super::scalar::Element;
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = r#"{"timestamp":"2026-11-21T10:00:00.123Z","service":"shöp","method":"GET","route":"/items/{id}","status":200,"response_time_ms":12.75,"trace_id":null}"#;

    /// What serde_json makes of a line, as a text that tells -0 from 0.
    fn general(line: &str) -> Option<String> {
        match serde_json::from_str(line) {
            Ok(Element::Record(record)) => Some(format!("{record:?}")),
            _ => None,
        }
    }

    fn plain(line: &str) -> Option<String> {
        record(line).map(|(record, _)| format!("{record:?}"))
    }

    #[test]
    fn what_clients_write_is_plain() {
        for line in [GOOD, &GOOD.replace("\":", "\" : ").replace(",\"", ", \""), &format!("{GOOD}\r")] {
            assert!(plain(line).is_some(), "{line}");
            assert_eq!(plain(line), general(line));
        }
        let two = format!("{GOOD}\n{GOOD}");
        assert_eq!(record(&two).map(|(_, rest)| rest), Some(GOOD));
    }

    #[test]
    fn what_is_wrong_or_rare_is_left_to_others() {
        for (from, to) in [
            ("}\"", "\\u007d\""),
            ("200", "true"),
            ("200", "[200]"),
            ("200", "-200"),
            ("200", "0200"),
            ("200", "200,\"status\":200"),
            ("12.75", "12."),
            ("12.75", ".75"),
            ("12.75", "1275e-2"),
            ("12.75", "12.7512345678901234"),
            ("12.75", "99999999999999999999"),
            ("GET", "G\tT"),
            ("GET", "G\nT"),
            ("null", "nul"),
            ("null}", "null,}"),
            ("null}", "null}x"),
            ("null}", "null"),
            (GOOD, "{}"),
            (GOOD, ""),
        ] {
            assert_eq!(plain(&GOOD.replace(from, to)), None, "{to}");
        }
    }

    proptest! {
        #[test]
        fn a_plain_line_means_what_it_means_to_serde_json(
            fields in proptest::collection::vec((
                "timestamp|service|method|route|path|status|response_time_ms|trace_id|other|é",
                "\"[ -~é\\\\\\\\]{0,12}\"|[0-9]{1,20}|[0-9]{1,9}\\.[0-9]{1,12}|-?[0-9]{1,3}(\\.[0-9]{0,2})?(e[0-9])?|null|true|\\{\\}",
                "[ \\t\\r]?",
            ), 0..10),
            at in any::<prop::sample::Index>(),
            with in "[\"{},:0-9.eE\\\\ n-]?",
        ) {
            let inside: Vec<String> =
                fields.iter().map(|(name, value, space)| format!("{space}\"{name}\"{space}:{space}{value}{space}")).collect();
            let line = format!("{{{}}}", inside.join(","));
            let mut broken = line.clone();
            let at = at.index(line.len());
            if line.is_char_boundary(at) && line.is_char_boundary(at + 1) {
                broken.replace_range(at..=at, &with);
            }
            for line in [&line, &broken] {
                if let Some(plain) = plain(line) {
                    prop_assert_eq!(Some(plain), general(line), "{}", line);
                }
            }
        }
    }
}
