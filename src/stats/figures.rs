//! The figures that every answer gives of some counters.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{Counters, Percentile};

/// What is said of an endpoint, a service, or a step of time. Response times are in milliseconds, over the requests that
/// came with one.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Figures {
    /// Requests.
    pub requests: u64,
    /// Requests a second: requests by the seconds of the window that have passed.
    pub requests_per_second: f64,
    /// Requests answered 5xx.
    pub errors: u64,
    /// Their share of all, 0 to 1; null where there was no request: a rate of zero is not "no data".
    #[schema(required, minimum = 0, maximum = 1)]
    pub error_rate: Option<f64>,
    /// Requests answered 4xx.
    pub client_errors: u64,
    /// Mean response time, ms; null where no request came with one.
    #[schema(required)]
    pub avg_ms: Option<f64>,
    /// Shortest response time, ms; null where no request came with one.
    #[schema(required)]
    pub min_ms: Option<f64>,
    /// Longest response time, ms; null where no request came with one.
    #[schema(required)]
    pub max_ms: Option<f64>,
    /// Median response time, ms; null of fewer than 5 requests: no guess.
    #[schema(required)]
    pub p50_ms: Option<f64>,
    /// 95th percentile of the response time, ms; null of fewer than 20 requests.
    #[schema(required)]
    pub p95_ms: Option<f64>,
    /// 99th percentile of the response time, ms; null of fewer than 100 requests.
    #[schema(required)]
    pub p99_ms: Option<f64>,
    /// Sum of the response times, ms: where the servers' time goes.
    pub total_time_ms: f64,
}

impl Figures {
    /// The figures of `counters` gathered in `seconds`.
    #[must_use]
    pub fn of(counters: &Counters, seconds: f64) -> Self {
        let ms = |us: Option<u64>| us.map(|us| us as f64 / 1_000.0);
        Self {
            requests: counters.request_count,
            requests_per_second: rounded(counters.request_count as f64 / seconds, 6),
            errors: counters.error_count,
            error_rate: counters.error_rate().map(|rate| rounded(rate, 6)),
            client_errors: counters.client_error_count,
            avg_ms: counters.avg_ms().map(|ms| rounded(ms, 3)),
            min_ms: ms(counters.min_response_time_us),
            max_ms: ms(counters.max_response_time_us),
            p50_ms: counters.percentile_ms(Percentile::P50).map(|ms| rounded(ms, 3)),
            p95_ms: counters.percentile_ms(Percentile::P95).map(|ms| rounded(ms, 3)),
            p99_ms: counters.percentile_ms(Percentile::P99).map(|ms| rounded(ms, 3)),
            total_time_ms: counters.total_time_ms(),
        }
    }

    /// The names of the figures, as columns of CSV.
    pub(super) const COLUMNS: [&str; 12] = [
        "requests",
        "requests_per_second",
        "errors",
        "error_rate",
        "client_errors",
        "avg_ms",
        "min_ms",
        "max_ms",
        "p50_ms",
        "p95_ms",
        "p99_ms",
        "total_time_ms",
    ];

    /// The figures in the order of [`COLUMNS`](Self::COLUMNS); null is the empty text.
    pub(super) fn cells(&self) -> [String; 12] {
        let optional = |figure: Option<f64>| figure.map(|figure| figure.to_string()).unwrap_or_default();
        [
            self.requests.to_string(),
            self.requests_per_second.to_string(),
            self.errors.to_string(),
            optional(self.error_rate),
            self.client_errors.to_string(),
            optional(self.avg_ms),
            optional(self.min_ms),
            optional(self.max_ms),
            optional(self.p50_ms),
            optional(self.p95_ms),
            optional(self.p99_ms),
            self.total_time_ms.to_string(),
        ]
    }
}

/// To so many digits behind the point: what lies behind them is noise of the division.
pub(super) fn rounded(value: f64, digits: i32) -> f64 {
    let unit = 10f64.powi(digits);
    (value * unit).round() / unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_are_the_fields_in_their_order() {
        let figures = Figures::of(&Counters::default(), 60.0);
        let json = serde_json::to_string(&figures).unwrap();
        let mut rest = json.as_str();
        for column in Figures::COLUMNS {
            let at = rest.find(&format!("\"{column}\":")).unwrap_or_else(|| panic!("{column} in {rest}"));
            rest = &rest[at + 1..];
        }
        assert_eq!(json.matches(':').count(), Figures::COLUMNS.len());
    }

    #[test]
    fn no_requests_have_no_rate_of_errors() {
        let figures = Figures::of(&Counters::default(), 60.0);
        assert_eq!((figures.requests, figures.error_rate, figures.avg_ms), (0, None, None));
    }
}
