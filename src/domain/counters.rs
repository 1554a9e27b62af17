//! What a rollup row counts.

use super::histogram::{LatencyHistogram, Percentile};

/// The counters of one endpoint over some time: exact, and additive field by field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests.
    pub request_count: u64,
    /// Requests answered 3xx.
    pub redirect_count: u64,
    /// Requests answered 4xx.
    pub client_error_count: u64,
    /// Requests answered 5xx.
    pub error_count: u64,
    /// Requests that came with a response time; many access logs have none.
    pub timed_count: u64,
    /// Sum of the response times, microseconds.
    pub total_response_time_us: u128,
    /// Shortest response time, microseconds.
    pub min_response_time_us: Option<u64>,
    /// Longest response time, microseconds.
    pub max_response_time_us: Option<u64>,
    /// The response times by bucket.
    pub latency_histogram: LatencyHistogram,
}

impl Counters {
    /// Counts one request.
    pub fn add(&mut self, status: u16, response_time_us: Option<u64>) {
        self.request_count += 1;
        match status / 100 {
            3 => self.redirect_count += 1,
            4 => self.client_error_count += 1,
            5 => self.error_count += 1,
            _ => {}
        }
        if let Some(us) = response_time_us {
            self.timed_count += 1;
            self.total_response_time_us += u128::from(us);
            self.min_response_time_us = Some(self.min_response_time_us.map_or(us, |min| min.min(us)));
            self.max_response_time_us = Some(self.max_response_time_us.map_or(us, |max| max.max(us)));
            self.latency_histogram.add(us);
        }
    }

    /// Adds what `other` counted.
    pub fn merge(&mut self, other: &Self) {
        self.request_count += other.request_count;
        self.redirect_count += other.redirect_count;
        self.client_error_count += other.client_error_count;
        self.error_count += other.error_count;
        self.timed_count += other.timed_count;
        self.total_response_time_us += other.total_response_time_us;
        self.min_response_time_us = self.min_response_time_us.into_iter().chain(other.min_response_time_us).min();
        self.max_response_time_us = self.max_response_time_us.max(other.max_response_time_us);
        self.latency_histogram.merge(&other.latency_histogram);
    }

    /// The mean response time in milliseconds; `None` where no request had one.
    #[must_use]
    pub fn avg_ms(&self) -> Option<f64> {
        (self.timed_count > 0).then(|| self.total_response_time_us as f64 / self.timed_count as f64 / 1_000.0)
    }

    /// The sum of the response times in milliseconds.
    #[must_use]
    pub fn total_time_ms(&self) -> f64 {
        self.total_response_time_us as f64 / 1_000.0
    }

    /// The share of requests answered 5xx, 0 to 1; `None` where there was no request.
    #[must_use]
    pub fn error_rate(&self) -> Option<f64> {
        (self.request_count > 0).then(|| self.error_count as f64 / self.request_count as f64)
    }

    /// The percentile in milliseconds; `None` where fewer than [`Percentile::min_sample`] requests had a response time:
    /// a figure that one request more would overturn is a guess.
    #[must_use]
    pub fn percentile_ms(&self, percentile: Percentile) -> Option<f64> {
        if self.timed_count < percentile.min_sample() {
            return None;
        }
        let (min, max) = self.min_response_time_us.zip(self.max_response_time_us)?;
        self.latency_histogram.percentile(percentile, min, max).map(|us| us / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_counted_in_its_class_only() {
        let mut counters = Counters::default();
        for status in [101, 200, 204, 301, 304, 400, 404, 499, 500, 503] {
            counters.add(status, None);
        }
        assert_eq!(
            (counters.request_count, counters.redirect_count, counters.client_error_count, counters.error_count),
            (10, 2, 3, 2)
        );
        assert_eq!((counters.timed_count, counters.avg_ms()), (0, None));
    }

    #[test]
    fn merging_with_an_untimed_part_keeps_the_minimum() {
        let mut untimed = Counters::default();
        untimed.add(200, None);
        let mut timed = Counters::default();
        timed.add(200, Some(7));
        timed.add(200, Some(3));
        untimed.merge(&timed);
        assert_eq!((untimed.min_response_time_us, untimed.max_response_time_us), (Some(3), Some(7)));
        timed.merge(&Counters::default());
        assert_eq!(timed.min_response_time_us, Some(3));
    }

    #[test]
    fn a_percentile_of_too_few_is_not_guessed() {
        let mut counters = Counters::default();
        for _ in 0..19 {
            counters.add(200, Some(1_000));
        }
        assert_eq!(counters.percentile_ms(Percentile::P50), Some(1.0));
        assert_eq!(counters.percentile_ms(Percentile::P95), None);
        counters.add(200, Some(1_000));
        assert_eq!(counters.percentile_ms(Percentile::P95), Some(1.0));
        assert_eq!(counters.percentile_ms(Percentile::P99), None);
    }
}
