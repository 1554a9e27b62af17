//! The latency histogram in Postgres: what Rust writes adds up with plain `SUM`, and `verify` counts as Rust does.

use bytes::BytesMut;
use endpoint_stats::domain::{LatencyHistogram, MAX_RESPONSE_TIME_US};
use endpoint_stats::store::sql;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;
use tokio_postgres::Client;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use crate::harness::{Database, TestApp, record};

/// A lane's largest count: twelve nines.
const LANE_MAX: u64 = 999_999_999_999;

/// A histogram as Postgres sees it: a `numeric` in binary form.
#[derive(Debug)]
struct Lanes(LatencyHistogram);

impl ToSql for Lanes {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let mut bytes = Vec::new();
        self.0.encode(&mut bytes);
        out.extend_from_slice(&bytes);
        Ok(IsNull::No)
    }

    accepts!(NUMERIC);
    to_sql_checked!();
}

impl<'r> FromSql<'r> for Lanes {
    fn from_sql(_: &Type, bytes: &'r [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(LatencyHistogram::decode(bytes)?))
    }

    accepts!(NUMERIC);
}

/// proptest's cases are plain functions; Postgres is asked from inside them on this runtime.
struct Asked {
    runtime: Runtime,
    client: Client,
    _database: Database,
}

impl Asked {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (client, database) = runtime.block_on(async {
            let database = Database::create().await;
            (database.connect().await, database)
        });
        Self { runtime, client, _database: database }
    }

    fn sum(&self, histograms: Vec<LatencyHistogram>) -> LatencyHistogram {
        let histograms: Vec<Lanes> = histograms.into_iter().map(Lanes).collect();
        let statement = "SELECT SUM(histogram) FROM unnest($1::numeric[]) AS given (histogram)";
        let row = self.runtime.block_on(self.client.query_one(statement, &[&histograms])).unwrap();
        row.get::<_, Lanes>(0).0
    }
}

fn of(times: &[u64]) -> LatencyHistogram {
    let mut histogram = LatencyHistogram::default();
    times.iter().for_each(|&us| histogram.add(us));
    histogram
}

/// `count` requests that took `us` each, by doubling: a million million of them one by one would take hours.
fn many(us: u64, count: u64) -> LatencyHistogram {
    let mut result = LatencyHistogram::default();
    let mut doubled = of(&[us]);
    let mut rest = count;
    while rest > 0 {
        if rest % 2 == 1 {
            result.merge(&doubled);
        }
        doubled.merge(&doubled.clone());
        rest /= 2;
    }
    result
}

/// Response times as likely short as long: evenly over the doublings.
fn response_time() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..=MAX_RESPONSE_TIME_US,
        (0u32..37, any::<u64>()).prop_map(|(doublings, noise)| {
            let least = 1u64 << doublings;
            (least + noise % least).min(MAX_RESPONSE_TIME_US)
        })
    ]
}

#[test]
fn a_sum_in_postgres_is_a_merge_in_rust() {
    let asked = Asked::new();
    // Requests and how often each occurs: counts of one, four, eight and twelve digits meet in one lane.
    let histogram = proptest::collection::vec(
        (response_time(), prop_oneof![Just(1u64), 1..10_000u64, Just(10_000), Just(100_000_000), 1..10_000_000_000u64]),
        0..20,
    );
    let histograms = proptest::collection::vec(histogram, 1..12);
    TestRunner::new(Config { cases: 200, ..Config::default() })
        .run(&histograms, |histograms| {
            let histograms: Vec<LatencyHistogram> = histograms
                .iter()
                .map(|times| {
                    times.iter().fold(LatencyHistogram::default(), |mut sum, &(us, count)| {
                        sum.merge(&many(us, count));
                        sum
                    })
                })
                .collect();
            let merged = histograms.iter().fold(LatencyHistogram::default(), |mut merged, histogram| {
                merged.merge(histogram);
                merged
            });
            prop_assert_eq!(asked.sum(histograms), merged);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_million_million_requests_less_one_fit_in_a_lane_between_full_neighbours() {
    let asked = Asked::new();
    // Buckets 79, 80 and 81, whose upper edges are 2^(79/8), 2^10 and 2^(81/8) microseconds.
    let neighbours = [938u64, 1_024, 1_116];
    let mut full = LatencyHistogram::default();
    neighbours.iter().for_each(|&us| full.merge(&many(us, LANE_MAX)));
    assert_eq!(full.count(), 3 * LANE_MAX);
    // As they come about in Postgres: one request short of full, and a delta with the last.
    let mut short = LatencyHistogram::default();
    neighbours.iter().for_each(|&us| short.merge(&many(us, LANE_MAX - 1)));
    assert_eq!(asked.sum(vec![short, of(&neighbours)]), full);
    // And as they lie there: 36 nines in front of 79 empty lanes.
    let text = asked.runtime.block_on(asked.client.query_one("SELECT $1::numeric::text", &[&Lanes(full)])).unwrap();
    assert_eq!(text.get::<_, String>(0), format!("{}{}", "9".repeat(36), "0".repeat(12 * 79)));
    // The highest lane there is has room as well: numeric's limit is far away.
    let highest = many(MAX_RESPONSE_TIME_US, LANE_MAX);
    assert_eq!(asked.sum(vec![highest.clone()]), highest);
}

/// The whole microseconds around the upper edge of every bucket.
fn edges() -> Vec<u64> {
    let mut edges: Vec<u64> = (0..=292)
        .flat_map(|bucket| {
            let edge = 2f64.powf(f64::from(bucket) / 8.0).floor() as u64;
            [edge.saturating_sub(1), edge, edge + 1]
        })
        .filter(|us| *us <= MAX_RESPONSE_TIME_US)
        .chain([0, 1, MAX_RESPONSE_TIME_US])
        .collect();
    edges.sort_unstable();
    edges.dedup();
    edges
}

/// The expression by which `verify_day.sql` finds the bucket of `response_time_us`.
fn bucket_by_logarithm() -> &'static str {
    let statement = sql::ALL.iter().find(|statement| statement.file == "verify_day.sql").unwrap();
    let line =
        statement.sql.lines().find(|line| line.ends_with("::integer AS bucket,")).expect("a line with the bucket");
    line.trim().trim_end_matches(" AS bucket,")
}

#[test]
fn the_bucket_that_verify_finds_by_logarithm_is_the_bucket_of_rust() {
    let asked = Asked::new();
    let statement = format!(
        "SELECT response_time_us, bucket, lane::text
         FROM (
             SELECT response_time_us, lane, {} AS bucket
             FROM unnest($1::bigint[], $2::numeric[]) AS given (response_time_us, lane)
         ) AS found
         WHERE lane <> ('1' || repeat('0', 12 * bucket))::numeric",
        bucket_by_logarithm()
    );
    let differences = |times: &[u64]| {
        let lanes: Vec<Lanes> = times.iter().map(|&us| Lanes(of(&[us]))).collect();
        let times: Vec<i64> = times.iter().map(|&us| us as i64).collect();
        let rows = asked.runtime.block_on(asked.client.query(&statement, &[&times, &lanes])).unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect::<Vec<(i64, i32, String)>>()
    };
    assert!(edges().len() > 750, "{}", edges().len());
    assert_eq!(differences(&edges()), []);
    // Every time up to 20 ms, where buckets are narrowest in microseconds.
    assert_eq!(differences(&(0..20_000).collect::<Vec<_>>()), []);
    TestRunner::new(Config { cases: 32, ..Config::default() })
        .run(&proptest::collection::vec(response_time(), 4_000), |times| {
            prop_assert_eq!(differences(&times), []);
            Ok(())
        })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_agrees_with_ingest_on_every_edge_before_and_after_the_fold() {
    let app = TestApp::start().await;
    let all: Vec<_> = edges().iter().map(|&us| record("2026-11-20T10:05:00Z", "/a", us as f64 / 1_000.0)).collect();
    app.accept(&all).await;
    let day = "2026-11-20".parse().unwrap();
    for stage in ["in deltas", "folded"] {
        assert_eq!(app.store.verify_day(day, 10).await.unwrap(), [], "{stage}");
        app.fold().await;
    }
    // One request in a neighbouring bucket, all else equal, is found.
    app.database
        .execute(
            "UPDATE endpoint_hourly_stats
             SET latency_histogram = latency_histogram - 1 + ('1' || repeat('0', 96))::numeric",
        )
        .await;
    let found = app.store.verify_day(day, 10).await.unwrap();
    // Against the raw requests, and against the minutes.
    let found: Vec<&str> = found.iter().map(|difference| difference.what.as_str()).collect();
    assert_eq!(found, ["latency histogram", "latency histogram"]);
}
