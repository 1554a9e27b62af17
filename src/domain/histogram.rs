//! The latency histogram: percentiles that add up.
//!
//! Bucket *i* counts the requests that took `(2^((i-1)/8), 2^(i/8)]` microseconds, the exponential scale of Prometheus'
//! native histograms at schema 3; bucket 0 also holds 0 µs. In Postgres a histogram is one `numeric`, a row of 12-digit
//! decimal lanes, lane *i* from the right counting bucket *i*. Adding two such numbers adds every lane, so plain
//! `SUM(latency_histogram)` merges histograms. Twelve decimal digits are exactly three of `numeric`'s base-10,000 digits,
//! so a lane is read and written without decimal text.
//!
//! A percentile is the one point of its bucket that is never further than [`PERCENTILE_ERROR`] from any value in it.
//! Interpolating by rank inside the bucket is nearer on smooth data, but where all values of a bucket lie at one edge it is
//! off by up to 9 %: an error bound that depends on luck is none.

use super::numeric::{self, InvalidNumeric};

/// The longest response time a record may have, in microseconds: 24 hours. It bounds the histogram to 292 lanes.
pub const MAX_RESPONSE_TIME_US: u64 = 86_400_000_000;

/// The largest relative error of a percentile against the exact nearest-rank value: `(u - l) / (u + l)` for a bucket
/// `(l, u]` with `u / l = 2^(1/8)`, rounded up. Below 2 µs, where a clock tick is a larger step than that, the error is
/// at most 1 µs.
pub const PERCENTILE_ERROR: f64 = 0.044;

/// Buckets to a doubling of the response time.
const BUCKETS_PER_DOUBLING: u32 = 8;

/// Base-10,000 digits to a lane.
const DIGITS_PER_LANE: usize = 3;

/// The largest count a lane can hold; a larger one would spill into its neighbour.
const LANE_MAX: u64 = 999_999_999_999;

/// `2^(j/8)` for j = 0..=8. As literals, since `powf` may differ in the last bit between platforms and a bucket may not.
const STEPS: [f64; 9] = [
    1.0,
    1.090_507_732_665_257_7,
    1.189_207_115_002_721,
    1.296_839_554_651_009_6,
    std::f64::consts::SQRT_2,
    1.542_210_825_407_940_7,
    1.681_792_830_507_429,
    1.834_008_086_409_342_4,
    2.0,
];

/// One of the percentiles that the service speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Percentile {
    /// The median.
    P50,
    /// Nineteen of twenty requests were at most this slow.
    P95,
    /// Ninety-nine of a hundred requests were at most this slow.
    P99,
}

impl Percentile {
    fn percent(self) -> u64 {
        match self {
            Self::P50 => 50,
            Self::P95 => 95,
            Self::P99 => 99,
        }
    }

    /// The fewest requests of which the percentile says more than their maximum does.
    #[must_use]
    pub fn min_sample(self) -> u64 {
        match self {
            Self::P50 => 5,
            Self::P95 => 20,
            Self::P99 => 100,
        }
    }

    /// The nearest rank, from 1: the smallest that has at least this percentage of `count` at or below it.
    fn rank(self, count: u64) -> u64 {
        // u128: `count` may come near u64::MAX in a merge of hostile lanes.
        let rank = (u128::from(count) * u128::from(self.percent())).div_ceil(100);
        u64::try_from(rank).unwrap_or(u64::MAX).max(1)
    }
}

/// Counts of response times by bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LatencyHistogram {
    /// Non-empty buckets and their counts, in order. Sparse, since an endpoint's minute rarely touches ten of the 292.
    buckets: Vec<(u16, u64)>,
}

impl LatencyHistogram {
    /// Counts one request that took `response_time_us` microseconds.
    pub fn add(&mut self, response_time_us: u64) {
        self.add_to_bucket(bucket_of(response_time_us), 1);
    }

    /// Adds every count of `other`.
    pub fn merge(&mut self, other: &Self) {
        for &(bucket, count) in &other.buckets {
            self.add_to_bucket(bucket, count);
        }
    }

    /// The number of requests counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0u64, |sum, &(_, count)| sum.saturating_add(count))
    }

    /// The percentile in microseconds, `None` of an empty histogram.
    ///
    /// `min_us` and `max_us` are the smallest and largest response time counted; they narrow the outermost buckets. The
    /// answer is within [`PERCENTILE_ERROR`] of the exact nearest-rank value: for a bucket whose values lie in `[l, u]`
    /// it is their harmonic mean `2lu / (l + u)`, the point with the smallest largest relative error.
    #[must_use]
    pub fn percentile(&self, percentile: Percentile, min_us: u64, max_us: u64) -> Option<f64> {
        let rank = percentile.rank(self.count());
        let mut seen = 0u64;
        let &(bucket, _) = self.buckets.iter().find(|&&(_, count)| {
            seen = seen.saturating_add(count);
            seen >= rank
        })?;
        // Response times are whole microseconds, so the whole numbers of the bucket are its true edges.
        let lowest = if bucket == 0 { 0 } else { upper_us(bucket - 1) as u64 + 1 };
        let highest = upper_us(bucket) as u64;
        let low = lowest.max(min_us).min(highest) as f64;
        let high = highest.min(max_us).max(lowest) as f64;
        // The quotient is rounded, so it may leave [low, high] by its last bit; a percentile may not.
        Some(if low + high > 0.0 { (2.0 * low * high / (low + high)).max(low).min(high) } else { 0.0 })
    }

    /// Appends the histogram in the binary form of `numeric`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut digits = Vec::with_capacity(self.buckets.len() * DIGITS_PER_LANE);
        for &(bucket, count) in &self.buckets {
            let mut rest = count.min(LANE_MAX);
            for digit in 0..DIGITS_PER_LANE {
                if !rest.is_multiple_of(10_000) {
                    digits.push((usize::from(bucket) * DIGITS_PER_LANE + digit, (rest % 10_000) as u16));
                }
                rest /= 10_000;
            }
        }
        numeric::encode_digits(&digits, out);
    }

    /// Reads a histogram from the binary form of `numeric`.
    ///
    /// # Errors
    /// [`InvalidNumeric`] for bytes that [`encode`](Self::encode) and `SUM` cannot have produced.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidNumeric> {
        let mut buckets: Vec<(u16, u64)> = Vec::new();
        for (power, digit) in numeric::decode_digits(bytes)? {
            if digit == 0 {
                continue;
            }
            let bucket = (power / DIGITS_PER_LANE) as u16;
            let count = u64::from(digit) * 10_000u64.pow((power % DIGITS_PER_LANE) as u32);
            match buckets.last_mut() {
                Some((last, sum)) if *last == bucket => *sum += count,
                _ => buckets.push((bucket, count)),
            }
        }
        buckets.reverse();
        Ok(Self { buckets })
    }

    fn add_to_bucket(&mut self, bucket: u16, count: u64) {
        match self.buckets.binary_search_by_key(&bucket, |&(b, _)| b) {
            Ok(at) => self.buckets[at].1 = self.buckets[at].1.saturating_add(count),
            Err(at) => self.buckets.insert(at, (bucket, count)),
        }
    }
}

/// The smallest *i* with `us <= 2^(i/8)`.
fn bucket_of(us: u64) -> u16 {
    if us <= 1 {
        return 0;
    }
    let doublings = us.ilog2();
    let base = (1u64 << doublings) as f64;
    // Exact: `us` is far below 2^53, and multiplying by a power of two only moves the exponent.
    let value = us as f64;
    let step = STEPS.iter().position(|step| value <= step * base).unwrap_or(STEPS.len() - 1);
    (doublings * BUCKETS_PER_DOUBLING) as u16 + step as u16
}

/// The upper edge of bucket *i* in microseconds.
fn upper_us(bucket: u16) -> f64 {
    let (doublings, step) = (bucket / BUCKETS_PER_DOUBLING as u16, bucket % BUCKETS_PER_DOUBLING as u16);
    STEPS[usize::from(step)] * 2f64.powi(i32::from(doublings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> LatencyHistogram {
        let mut histogram = LatencyHistogram::default();
        values.iter().for_each(|&us| histogram.add(us));
        histogram
    }

    fn round_trip(histogram: &LatencyHistogram) -> LatencyHistogram {
        let mut bytes = Vec::new();
        histogram.encode(&mut bytes);
        LatencyHistogram::decode(&bytes).unwrap()
    }

    #[test]
    fn a_power_of_two_is_the_upper_edge_of_its_bucket() {
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(1), 0);
        assert_eq!(bucket_of(2), 8);
        assert_eq!(bucket_of(3), 13, "2^(12/8) = 2.83 < 3 <= 2^(13/8) = 3.08");
        assert_eq!(bucket_of(1 << 20), 160);
        assert_eq!(bucket_of((1 << 20) + 1), 161);
        assert_eq!(bucket_of(MAX_RESPONSE_TIME_US), 291);
    }

    #[test]
    fn a_lane_holds_a_million_millions_but_one() {
        let full = LatencyHistogram { buckets: vec![(0, 1), (7, LANE_MAX), (8, 2), (291, LANE_MAX)] };
        assert_eq!(round_trip(&full), full);
        let spilling = LatencyHistogram { buckets: vec![(7, LANE_MAX + 5)] };
        assert_eq!(round_trip(&spilling).buckets, [(7, LANE_MAX)], "held back rather than carried into bucket 8");
    }

    #[test]
    fn the_error_bound_is_that_of_the_scale() {
        let ratio = STEPS[1];
        assert!((ratio - 1.0) / (ratio + 1.0) <= PERCENTILE_ERROR);
    }

    #[test]
    fn equal_values_give_that_value() {
        let histogram = of(&[12_700; 40]);
        assert_eq!(histogram.percentile(Percentile::P95, 12_700, 12_700), Some(12_700.0));
        // Here the harmonic mean of the value with itself is rounded up.
        let histogram = of(&[496_199_609]);
        assert_eq!(histogram.percentile(Percentile::P50, 496_199_609, 496_199_609), Some(496_199_609.0));
    }

    #[test]
    fn nothing_counted_has_no_percentile() {
        assert_eq!(LatencyHistogram::default().percentile(Percentile::P50, 0, 0), None);
    }

    proptest! {
        #[test]
        fn every_value_lies_in_its_bucket(us in 2..=MAX_RESPONSE_TIME_US) {
            let bucket = bucket_of(us);
            prop_assert!(us as f64 <= upper_us(bucket));
            prop_assert!(us as f64 > upper_us(bucket - 1));
        }

        #[test]
        fn a_percentile_is_within_the_bound_of_the_nearest_rank(
            mut values in proptest::collection::vec(
                prop_oneof![0..4u64, 1..5_000u64, 1..=MAX_RESPONSE_TIME_US, Just(1_047u64), Just(1_117u64)], 1..400),
        ) {
            let histogram = of(&values);
            values.sort_unstable();
            for percentile in [Percentile::P50, Percentile::P95, Percentile::P99] {
                let exact = values[percentile.rank(values.len() as u64) as usize - 1] as f64;
                let told = histogram.percentile(percentile, values[0], values[values.len() - 1]).unwrap();
                let off = (told - exact).abs();
                prop_assert!(off <= exact * PERCENTILE_ERROR || off <= 1.0, "{told} for {exact}");
            }
        }

        #[test]
        fn percentiles_never_cross(values in proptest::collection::vec(0..=MAX_RESPONSE_TIME_US, 1..100)) {
            let histogram = of(&values);
            let (min, max) = (*values.iter().min().unwrap(), *values.iter().max().unwrap());
            let [p50, p95, p99] = [Percentile::P50, Percentile::P95, Percentile::P99]
                .map(|percentile| histogram.percentile(percentile, min, max).unwrap());
            prop_assert!(min as f64 <= p50 && p50 <= p95 && p95 <= p99 && p99 <= max as f64);
        }

        #[test]
        fn merging_is_counting_together(
            left in proptest::collection::vec(0..=MAX_RESPONSE_TIME_US, 0..100),
            right in proptest::collection::vec(0..=MAX_RESPONSE_TIME_US, 0..100),
        ) {
            let mut merged = of(&left);
            merged.merge(&of(&right));
            prop_assert_eq!(round_trip(&merged), of(&[left, right].concat()));
        }
    }
}
