//! Postgres' `numeric` in its binary form, for whole numbers of any size.
//!
//! The form (`numeric_send` in `src/backend/utils/adt/numeric.c`): four 16-bit words `ndigits, weight, sign, dscale`,
//! then `ndigits` base-10,000 digits, the first worth `10000^weight`. Zeros at both ends are left out.
//! Decides: nothing about meaning; the histogram and the sums of response times give the digits theirs.

/// One base-10,000 digit and the power of 10,000 it counts.
pub(super) type Digit = (usize, u16);

/// Powers of 10,000 above this have no meaning here; a number that has them was not written by this service.
const HIGHEST_POWER: usize = 4_000;

/// Bytes that are not a `numeric` this service can have written: cut short, negative, NaN, or with a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a whole, non-negative number in Postgres' binary form")]
pub struct InvalidNumeric;

/// Appends the number whose non-zero digits are `digits`, lowest power first.
pub(super) fn encode_digits(digits: &[Digit], out: &mut Vec<u8>) {
    let (Some(&(lowest, _)), Some(&(highest, _))) = (digits.first(), digits.last()) else {
        out.extend_from_slice(&[0; 8]);
        return;
    };
    let width = highest - lowest + 1;
    let start = out.len();
    // Both fit in 16 bits: no power exceeds HIGHEST_POWER.
    out.extend_from_slice(&(width as u16).to_be_bytes());
    out.extend_from_slice(&(highest as i16).to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.resize(start + 8 + 2 * width, 0);
    for &(power, digit) in digits {
        let at = start + 8 + 2 * (highest - power);
        out[at..at + 2].copy_from_slice(&digit.to_be_bytes());
    }
}

/// The digits of a number, highest power first.
pub(super) fn decode_digits(bytes: &[u8]) -> Result<impl Iterator<Item = Digit> + '_, InvalidNumeric> {
    let word = |at: usize| -> Result<u16, InvalidNumeric> {
        let pair = bytes.get(at..at + 2).ok_or(InvalidNumeric)?;
        Ok(u16::from_be_bytes([pair[0], pair[1]]))
    };
    let count = usize::from(word(0)?);
    let weight = word(2)?;
    let sign = word(4)?;
    if sign != 0 || bytes.len() != 8 + 2 * count {
        return Err(InvalidNumeric);
    }
    // A weight below the number of digits means digits behind the point.
    let highest = usize::from(weight);
    if count > 0 && (highest > HIGHEST_POWER || highest + 1 < count) {
        return Err(InvalidNumeric);
    }
    Ok((0..count).map(move |index| {
        let at = 8 + 2 * index;
        (highest - index, u16::from_be_bytes([bytes[at], bytes[at + 1]]))
    }))
}

/// Appends `value` in the binary form of `numeric`.
pub fn encode_unsigned(mut value: u128, out: &mut Vec<u8>) {
    let mut digits: [Digit; 10] = [(0, 0); 10];
    let mut used = 0;
    let mut power = 0;
    while value > 0 {
        let digit = (value % 10_000) as u16;
        if digit != 0 {
            digits[used] = (power, digit);
            used += 1;
        }
        value /= 10_000;
        power += 1;
    }
    encode_digits(&digits[..used], out);
}

/// Reads a whole number from the binary form of `numeric`.
///
/// # Errors
/// [`InvalidNumeric`] for anything but a whole number from 0 to `u128::MAX`.
pub fn decode_unsigned(bytes: &[u8]) -> Result<u128, InvalidNumeric> {
    decode_digits(bytes)?.try_fold(0u128, |sum, (power, digit)| {
        let unit = 10_000u128.checked_pow(power as u32).ok_or(InvalidNumeric)?;
        unit.checked_mul(u128::from(digit)).and_then(|part| sum.checked_add(part)).ok_or(InvalidNumeric)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zero_has_no_digits() {
        let mut bytes = Vec::new();
        encode_unsigned(0, &mut bytes);
        assert_eq!(bytes, [0; 8]);
        assert_eq!(decode_unsigned(&bytes), Ok(0));
    }

    #[test]
    fn zeros_at_both_ends_are_left_out() {
        let mut bytes = Vec::new();
        encode_unsigned(50_000_000, &mut bytes);
        assert_eq!(bytes, [0, 1, 0, 1, 0, 0, 0, 0, 0x13, 0x88], "5000 * 10000^1");
    }

    #[test]
    fn a_fraction_a_sign_or_a_cut_is_refused() {
        assert_eq!(decode_unsigned(&[0, 1, 0, 0, 0x40, 0, 0, 0, 0, 1]), Err(InvalidNumeric), "negative");
        assert_eq!(decode_unsigned(&[0, 2, 0, 0, 0, 0, 0, 4, 0, 1, 0, 1]), Err(InvalidNumeric), "1.0001");
        assert_eq!(decode_unsigned(&[0, 2, 0, 1, 0, 0, 0, 0, 0, 1]), Err(InvalidNumeric), "cut");
        assert_eq!(decode_unsigned(&[0xff, 0xff]), Err(InvalidNumeric));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in any::<u128>()) {
            let mut bytes = Vec::new();
            encode_unsigned(value, &mut bytes);
            prop_assert_eq!(decode_unsigned(&bytes), Ok(value));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(digits) = decode_digits(&bytes) {
                prop_assert!(digits.count() < 32);
            }
        }
    }
}
