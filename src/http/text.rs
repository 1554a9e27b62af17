//! Texts of headers that change with each request.
//!
//! `format!` would say the same. It takes some hundred nanoseconds a number, of the microseconds that an answer at hand has in
//! all, and there are half a dozen such headers in each.

use std::time::Duration;

use actix_web::http::header::HeaderValue;
use actix_web::web::BytesMut;

/// A text that is being put together, and room for those after it: the values made from one of these share their memory.
#[derive(Debug)]
pub(super) struct Text(BytesMut);

impl Default for Text {
    /// Empty, with room for all that is put together for one answer.
    fn default() -> Self {
        Self(BytesMut::with_capacity(256))
    }
}

impl Text {
    /// Followed by `text`.
    pub(super) fn and(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// Followed by a whole number.
    pub(super) fn and_number(&mut self, mut number: u64) -> &mut Self {
        // As many digits as the largest has.
        let mut digits = [0; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = DIGITS[(number % 10) as usize];
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.0.extend_from_slice(&digits[first..]);
        self
    }

    /// Followed by `length` in milliseconds, to the microsecond.
    pub(super) fn and_millis(&mut self, length: Duration) -> &mut Self {
        let us = u64::try_from((length.as_nanos() + 500) / 1_000).unwrap_or(u64::MAX);
        let digit = |unit: u64| DIGITS[(us / unit % 10) as usize];
        self.and_number(us / 1_000).0.extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
        self
    }

    /// Followed by `bytes`, two digits each.
    pub(super) fn and_hex(&mut self, bytes: &[u8]) -> &mut Self {
        for byte in bytes {
            self.0.extend_from_slice(&[byte >> 4, byte & 15].map(|half| DIGITS[usize::from(half)]));
        }
        self
    }

    /// What was put together, as the value of a header. The next text begins here.
    pub(super) fn value(&mut self) -> HeaderValue {
        // Fails only for control characters; the texts are our own.
        HeaderValue::from_maybe_shared(self.0.split().freeze()).unwrap_or(HeaderValue::from_static(""))
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_says_what_format_would(
            number in prop_oneof![0..1_000_u64, any::<u64>()],
            micros in prop_oneof![0..10_000_u64, 0..u64::from(u32::MAX)],
            bytes in any::<[u8; 5]>(),
        ) {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let expected = format!("a;{number};{:.3}-{hex}\"", micros as f64 / 1_000.0);
            let mut text = Text::default();
            // Also where the room that there was at first has been used up.
            for _ in 0..20 {
                text.and("a;").and_number(number).and(";").and_millis(Duration::from_micros(micros));
                let value = text.and("-").and_hex(&bytes).and("\"").value();
                prop_assert_eq!(value.to_str().unwrap(), &expected);
            }
        }
    }

    #[test]
    fn of_nanoseconds_the_nearest_microsecond_is_told() {
        let told = |nanos| Text::default().and_millis(Duration::from_nanos(nanos)).value();
        for (nanos, expected) in [(0, "0.000"), (499, "0.000"), (500, "0.001"), (1_499, "0.001"), (999_501, "1.000")] {
            assert_eq!(told(nanos), expected, "{nanos}");
        }
        assert_eq!(Text::default().and_millis(Duration::MAX).value(), "18446744073709551.615");
    }
}
