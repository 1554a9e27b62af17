//! Medians, spreads, how they are written.

use std::fmt;
use std::time::Duration;

/// One figure, measured several times.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    /// One more measurement.
    pub(crate) fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The one in the middle; of an even number the mean of both; 0 of none.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => 0.0,
            odd if odd % 2 == 1 => sorted[odd / 2],
            even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
        }
    }

    /// The smallest.
    pub(crate) fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The largest.
    pub(crate) fn max(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }

    /// How far the measurements lie apart, relative to the median.
    pub(crate) fn spread(&self) -> f64 {
        if self.median() > 0.0 { (self.max() - self.min()) / self.median() } else { 0.0 }
    }

    /// Each measurement of this beside that of the same round of `other`.
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(this, that)| this / that).collect())
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<f64> for Sample {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// A number with three digits that count, and its thousands apart.
pub(crate) struct Rounded(pub f64);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0;
        if !value.is_finite() {
            return f.write_str("–");
        }
        if value.abs() < 100.0 {
            let places = if value.abs() < 1.0 {
                3
            } else if value.abs() < 10.0 {
                2
            } else {
                1
            };
            return write!(f, "{value:.places$}");
        }
        // 48,317 is told as 48,300.
        let unit = 10f64.powi(value.abs().log10().floor() as i32 - 2);
        let digits = format!("{:.0}", (value / unit).round() * unit);
        let grouped = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect::<Vec<_>>().join(",");
        f.write_str(&grouped)
    }
}

/// Milliseconds of a duration.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(values: &[f64]) -> Sample {
        values.iter().copied().collect()
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(sample(&[3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(sample(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        assert_eq!(sample(&[]).median(), 0.0);
        assert_eq!(sample(&[9.0, 10.0, 12.0]).spread(), 0.3);
    }

    #[test]
    fn ratios_are_those_of_the_same_round() {
        let ratios = sample(&[10.0, 30.0]).over(&sample(&[5.0, 10.0]));
        assert_eq!((ratios.min(), ratios.max()), (2.0, 3.0));
    }

    #[test]
    fn three_digits_count() {
        let written = |value| Rounded(value).to_string();
        assert_eq!(written(571_312.0), "571,000");
        assert_eq!(written(1_999_999.0), "2,000,000");
        assert_eq!(written(128.4), "128");
        assert_eq!(written(12.34), "12.3");
        assert_eq!(written(1.234), "1.23");
        assert_eq!(written(0.5), "0.500");
        assert_eq!(written(f64::INFINITY), "–");
    }
}
