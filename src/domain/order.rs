//! By what endpoints are ranked.

use std::cmp::Ordering;
use std::str::FromStr;

use super::counters::Counters;
use super::histogram::Percentile;

/// The column of a ranking; the largest value comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// Requests.
    Requests,
    /// Requests answered 5xx.
    Errors,
    /// Share of requests answered 5xx.
    ErrorRate,
    /// Requests answered 4xx.
    ClientErrors,
    /// Mean response time.
    Avg,
    /// Median response time.
    P50,
    /// 95th percentile of the response time.
    P95,
    /// 99th percentile of the response time.
    P99,
    /// Longest response time.
    Max,
    /// Sum of the response times: where the servers' time goes.
    TotalTime,
}

impl Order {
    /// Every order, as the API lists them.
    pub const ALL: [Self; 10] = [
        Self::Requests,
        Self::Errors,
        Self::ErrorRate,
        Self::ClientErrors,
        Self::Avg,
        Self::P50,
        Self::P95,
        Self::P99,
        Self::Max,
        Self::TotalTime,
    ];

    /// The name in queries and answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Errors => "errors",
            Self::ErrorRate => "error_rate",
            Self::ClientErrors => "client_errors",
            Self::Avg => "avg",
            Self::P50 => "p50",
            Self::P95 => "p95",
            Self::P99 => "p99",
            Self::Max => "max",
            Self::TotalTime => "total_time",
        }
    }

    /// The names, for a message that lists them.
    #[must_use]
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// The value by which an endpoint with these counters is ranked; `None` (no response times, or too few for a
    /// percentile) ranks behind every value.
    #[must_use]
    pub fn value(self, counters: &Counters) -> Option<f64> {
        match self {
            Self::Requests => Some(counters.request_count as f64),
            Self::Errors => Some(counters.error_count as f64),
            Self::ErrorRate => counters.error_rate(),
            Self::ClientErrors => Some(counters.client_error_count as f64),
            Self::Avg => counters.avg_ms(),
            Self::P50 => counters.percentile_ms(Percentile::P50),
            Self::P95 => counters.percentile_ms(Percentile::P95),
            Self::P99 => counters.percentile_ms(Percentile::P99),
            Self::Max => counters.max_response_time_us.map(|us| us as f64 / 1_000.0),
            Self::TotalTime => Some(counters.total_time_ms()),
        }
    }

    /// Compares two values of a ranking: larger first, no value last.
    #[must_use]
    pub fn compare(left: Option<f64>, right: Option<f64>) -> Ordering {
        match (left, right) {
            (Some(left), Some(right)) => right.total_cmp(&left),
            (left, right) => right.is_some().cmp(&left.is_some()),
        }
    }
}

impl FromStr for Order {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|order| order.name() == name).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_found_by_its_name() {
        for order in Order::ALL {
            assert_eq!(order.name().parse(), Ok(order));
        }
        assert_eq!("p95; DROP TABLE requests".parse::<Order>(), Err(()));
    }

    #[test]
    fn larger_comes_first_and_nothing_comes_last() {
        let mut values = [None, Some(1.0), Some(3.0), None, Some(2.0)];
        values.sort_by(|left, right| Order::compare(*left, *right));
        assert_eq!(values, [Some(3.0), Some(2.0), Some(1.0), None, None]);
    }
}
