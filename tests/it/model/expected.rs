//! What the answers should be: plain counting over a list.

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use endpoint_stats::jobs::Retention;
use serde_json::Value;

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub at: DateTime<Utc>,
    pub service: &'static str,
    pub method: &'static str,
    pub route: &'static str,
    pub status: u16,
    pub us: Option<u64>,
}

/// Service, method, route.
pub type Name = (&'static str, &'static str, &'static str);

impl Record {
    pub fn name(&self) -> Name {
        (self.service, self.method, self.route)
    }
}

/// Every record acknowledged, and what is known of the retention.
pub struct Model {
    pub records: Vec<Record>,
    pub minutes_since: DateTime<Utc>,
    pub raw_since: DateTime<Utc>,
    minutes: TimeDelta,
    raw: TimeDelta,
}

pub fn floor(instant: DateTime<Utc>, minutes: i64) -> DateTime<Utc> {
    instant.duration_trunc(TimeDelta::minutes(minutes)).unwrap()
}

pub fn ceil(instant: DateTime<Utc>, minutes: i64) -> DateTime<Utc> {
    let floored = floor(instant, minutes);
    if floored == instant { instant } else { floored + TimeDelta::minutes(minutes) }
}

impl Model {
    pub fn new(now: DateTime<Utc>, retention: &Retention) -> Self {
        let mut model = Self {
            records: Vec::new(),
            minutes_since: DateTime::<Utc>::MIN_UTC,
            raw_since: DateTime::<Utc>::MIN_UTC,
            minutes: retention.minutes.unwrap(),
            raw: retention.raw.unwrap(),
        };
        model.synchronise(now);
        model
    }

    pub fn synchronise(&mut self, now: DateTime<Utc>) {
        self.minutes_since = self.minutes_since.max(floor(now - self.minutes, 60));
        self.raw_since = self.raw_since.max(floor(now - self.raw, 24 * 60));
    }

    pub fn add(&mut self, records: &[Record]) {
        self.records.extend_from_slice(records);
    }

    /// The window that an answer should say it read.
    pub fn widened(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
        let (from, to) = (floor(from, 1), ceil(to, 1));
        (
            if from < self.minutes_since { floor(from, 60) } else { from },
            if to < self.minutes_since { ceil(to, 60) } else { to },
        )
    }

    /// The records of a window that match, by endpoint.
    pub fn by_endpoint(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        matches: impl Fn(&Record) -> bool,
    ) -> BTreeMap<Name, Vec<&Record>> {
        let mut found: BTreeMap<Name, Vec<&Record>> = BTreeMap::new();
        for record in self.records.iter().filter(|record| record.at >= from && record.at < to && matches(record)) {
            found.entry(record.name()).or_default().push(record);
        }
        found
    }
}

/// Whether the figures of an answer are those of `records`.
pub fn figures_agree(told: &Value, records: &[&Record]) -> Result<(), String> {
    let count = |class: std::ops::RangeInclusive<u16>| records.iter().filter(|r| class.contains(&r.status)).count();
    let mut times: Vec<u64> = records.iter().filter_map(|record| record.us).collect();
    times.sort_unstable();
    let (requests, errors, client_errors) = (records.len(), count(500..=599), count(400..=499));
    let exact = [("requests", requests), ("errors", errors), ("client_errors", client_errors)];
    for (field, expected) in exact {
        if told[field].as_u64() != Some(expected as u64) {
            return Err(format!("{field}: told {}, counted {expected}", told[field]));
        }
    }
    let total: u64 = times.iter().sum();
    let ms = |us: u64| us as f64 / 1_000.0;
    let near = |field: &str, expected: Option<f64>, error: f64| match (told[field].as_f64(), expected) {
        (None, None) => Ok(()),
        (Some(told), Some(expected)) if (told - expected).abs() <= error.max(expected * error) => Ok(()),
        (told, expected) => Err(format!("{field}: told {told:?}, counted {expected:?}")),
    };
    near("total_time_ms", Some(ms(total)), 1e-6)?;
    near("min_ms", times.first().copied().map(ms), 1e-9)?;
    near("max_ms", times.last().copied().map(ms), 1e-9)?;
    near("avg_ms", (!times.is_empty()).then(|| ms(total) / times.len() as f64), 0.000_6)?;
    near("error_rate", (requests > 0).then(|| errors as f64 / requests as f64), 1e-6)?;
    for (field, percent, least) in [("p50_ms", 50, 5), ("p95_ms", 95, 20), ("p99_ms", 99, 100)] {
        let rank = (times.len() * percent).div_ceil(100).max(1);
        let expected = (times.len() >= least).then(|| times[rank - 1]);
        match (told[field].as_f64(), expected) {
            (None, None) => {}
            // A microsecond is the finest step, and three digits of a millisecond are told.
            (Some(told), Some(us)) if (told - ms(us)).abs() <= (ms(us) * 0.044).max(0.001) + 0.000_5 => {}
            (told, expected) => return Err(format!("{field}: told {told:?}, nearest rank {expected:?} us")),
        }
    }
    Ok(())
}
