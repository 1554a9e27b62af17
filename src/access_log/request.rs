//! The request line, `GET /path?query HTTP/1.1`, and the escapes in which Apache and nginx write it.
//!
//! Decides what is a request at all: a method made of letters, a target, and a protocol unless the request is as short as
//! HTTP/0.9's. Does not decide which methods exist, nor what a target may look like.

use std::borrow::Cow;

use super::{InvalidLine, excerpt};

/// Takes a request line apart into method and target, both as written.
///
/// A target may hold spaces, as bad clients send them, when a protocol marks its end.
pub(super) fn split(line: &str) -> Result<(&str, &str), InvalidLine> {
    if line.bytes().all(|b| matches!(b, b'-' | b' ')) {
        return Err(InvalidLine::NoRequest);
    }
    let invalid = || InvalidLine::InvalidRequest { found: excerpt(line) };
    let (method, rest) = line.split_once(' ').ok_or_else(invalid)?;
    let target = match rest.rsplit_once(' ') {
        Some((target, protocol)) if is_protocol(protocol) => target.trim_matches(' '),
        Some(_) => return Err(invalid()),
        None => rest,
    };
    if is_method(method) && is_target(target) { Ok((method, target)) } else { Err(invalid()) }
}

/// Letters, `-` and `_`, beginning with a letter: every method there is, and nothing of a TLS greeting.
pub(super) fn is_method(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphabetic() || matches!(b, b'-' | b'_'))
}

/// Anything but nothing; a protocol in its place means that the target was left out.
pub(super) fn is_target(text: &str) -> bool {
    !super::is_absent(text) && !is_protocol(text)
}

fn is_protocol(text: &str) -> bool {
    text.strip_prefix("HTTP/")
        .is_some_and(|version| !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
}

/// Undoes the escapes of a log: `\"`, `\\`, and `\xHH` for one byte. Bytes that then are not UTF-8 become U+FFFD.
///
/// Escaped control characters stay as they are: whoever prints or stores the target must not meet a line end or a NUL in
/// it. So do the escapes of control characters that have a letter (`\n`), and any backslash that begins no escape.
pub(super) fn decode(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find('\\') else {
        return Cow::Borrowed(text);
    };
    let (plain, mut rest) = text.as_bytes().split_at(first);
    let mut decoded = plain.to_vec();
    loop {
        match rest {
            [] => break,
            [b'\\', byte @ (b'"' | b'\\'), behind @ ..] => {
                decoded.push(*byte);
                rest = behind;
            }
            [b'\\', b'x', high, low, behind @ ..] => match hex(*high, *low) {
                Some(byte) if !byte.is_ascii_control() => {
                    decoded.push(byte);
                    rest = behind;
                }
                _ => {
                    decoded.push(b'\\');
                    rest = &rest[1..];
                }
            },
            [byte, behind @ ..] => {
                decoded.push(*byte);
                rest = behind;
            }
        }
    }
    Cow::Owned(match String::from_utf8(decoded) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_method_and_target_with_or_without_protocol() {
        assert_eq!(split("GET /a?b=c HTTP/1.1"), Ok(("GET", "/a?b=c")));
        assert_eq!(split("GET /a HTTP/2"), Ok(("GET", "/a")));
        assert_eq!(split("GET /"), Ok(("GET", "/")));
        assert_eq!(split("OPTIONS * HTTP/1.0"), Ok(("OPTIONS", "*")));
        assert_eq!(split("CONNECT shop.example:443 HTTP/1.1"), Ok(("CONNECT", "shop.example:443")));
    }

    #[test]
    fn a_target_with_spaces_ends_where_the_protocol_begins() {
        assert_eq!(split("GET /a b c HTTP/1.1"), Ok(("GET", "/a b c")));
        assert!(split("GET /a b").is_err());
    }

    #[test]
    fn a_connection_without_a_request_has_its_own_reason() {
        for line in ["", "-", "- - -"] {
            assert_eq!(split(line), Err(InvalidLine::NoRequest), "{line}");
        }
    }

    #[test]
    fn what_is_no_request_is_turned_down() {
        for line in [
            r"\x16\x03\x01\x02\x00 \x01",
            "GET",
            "GET ",
            "GET HTTP/1.1",
            "GET  HTTP/1.1",
            "GET - HTTP/1.1",
            "/a HTTP/1.1",
            "SSTP_DUPLEX_POST",
        ] {
            assert!(matches!(split(line), Err(InvalidLine::InvalidRequest { .. })), "{line}");
        }
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(decode(r#"/say/\"hi\""#), r#"/say/"hi""#);
        assert_eq!(decode(r"/say/\x22hi\x22"), r#"/say/"hi""#);
        assert_eq!(decode(r"/caf\xC3\xa9"), "/café");
        assert_eq!(decode(r"/a\\x22"), r"/a\x22");
        assert_eq!(decode(r"/caf\xE9"), "/caf\u{fffd}");
    }

    #[test]
    fn escaped_control_characters_and_half_escapes_stay_as_they_are() {
        for text in [r"/a\x00b", r"/a\x0Ab", r"/a\nb", r"/a\x7F", r"/a\xZZ", r"/a\x4", r"/a\"] {
            assert_eq!(decode(text), text);
        }
    }
}
