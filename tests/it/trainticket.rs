//! Two days of a real system: counts exact, percentiles within the bound, in every place the figures may lie.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};

use chrono::{DateTime, TimeDelta, Utc};
use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::harness::{TestApp, at, data};

/// Records to a request.
const BATCH: usize = 5_000;

/// What is promised of a percentile.
const BOUND: f64 = 0.044;

/// An HTTP server span.
struct Span {
    service: String,
    route: String,
    ended: DateTime<Utc>,
    response_time_us: u64,
}

/// The spans, moved by whole days so that the last of them was on the day before `today`.
fn spans(path: &std::path::Path, today: DateTime<Utc>) -> Vec<Span> {
    let lines = BufReader::new(GzDecoder::new(std::fs::File::open(path).unwrap())).lines();
    let mut spans: Vec<Span> = lines.skip(1).map(|line| span(&line.unwrap())).collect();
    let last = spans.iter().map(|span| span.ended).max().unwrap();
    let days = TimeDelta::days((today.date_naive() - last.date_naive()).num_days() - 1);
    spans.iter_mut().for_each(|span| span.ended += days);
    spans
}

fn span(line: &str) -> Span {
    let columns: Vec<&str> = line.split(',').collect();
    let [_, _, _, pod, route, _, ended, duration] = columns[..] else { panic!("not eight columns: {line}") };
    // ts-auth-service-7f8d7d756d-k7b9j: the deployment, then the hashes of its replica set and of the pod.
    let service = pod.rsplitn(3, '-').nth(2).unwrap();
    Span {
        service: service.to_owned(),
        route: route.to_owned(),
        ended: DateTime::from_timestamp_nanos(ended.parse().unwrap()),
        response_time_us: duration.parse().unwrap(),
    }
}

fn record(span: &Span) -> Value {
    json!({
        "timestamp": span.ended,
        "service": span.service,
        "method": "GET",
        "route": span.route,
        "status": 200,
        "response_time_ms": span.response_time_us as f64 / 1_000.0,
    })
}

/// Response times by route, in order.
fn by_route(spans: &[Span]) -> BTreeMap<&str, Vec<u64>> {
    let mut routes: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for span in spans {
        routes.entry(&span.route).or_default().push(span.response_time_us);
    }
    routes.values_mut().for_each(|times| times.sort_unstable());
    routes
}

/// The smallest value that at least `percent` of all do not exceed.
fn nearest_rank(sorted: &[u64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent).div_ceil(100) - 1] as f64
}

/// Compares a row of the ranking with what is exact; gives the relative errors of the percentiles.
fn compare(row: &Value, times: &[u64], place: &str) -> Vec<f64> {
    let route = &row["route"];
    assert_eq!(row["requests"], times.len(), "{place}: {route}");
    assert_eq!(row["min_ms"], times[0] as f64 / 1_000.0, "{place}: {route}");
    assert_eq!(row["max_ms"], times[times.len() - 1] as f64 / 1_000.0, "{place}: {route}");
    let total = times.iter().sum::<u64>() as f64 / 1_000.0;
    assert_eq!(row["total_time_ms"], total, "{place}: {route}");
    let mut errors = Vec::new();
    for (percent, fewest) in [(50, 5), (95, 20), (99, 100)] {
        let told = &row[format!("p{percent}_ms")];
        if times.len() < fewest {
            assert!(told.is_null(), "{place}: {route}: p{percent} of {} requests is {told}", times.len());
            continue;
        }
        let told = told.as_f64().unwrap_or_else(|| panic!("{place}: {route}: p{percent} is {told}"));
        let exact = nearest_rank(times, percent) / 1_000.0;
        let error = (told / exact - 1.0).abs();
        assert!(error <= BOUND, "{place}: {route}: p{percent} is {told}, exact {exact}: {:.2} % off", error * 100.0);
        errors.push(error);
    }
    errors
}

async fn assert_exact(app: &TestApp, spans: &[Span], place: &str) {
    let routes = by_route(spans);
    assert_eq!(routes.len(), 46);
    let days = "from=2026-11-19&to=2026-11-21";
    let answer = app.get(&format!("/api/v1/endpoints/top?{days}&limit=1000")).await;
    let rows = answer["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &answer["total"]["requests"]), (46, &json!(spans.len())), "{place}");
    let mut errors: Vec<f64> =
        rows.iter().flat_map(|row| compare(row, &routes[row["route"].as_str().unwrap()], place)).collect();

    // Over all together, where the known truth is p50 8.4 ms, p95 277 ms, p99 888 ms, max 10.2 s.
    let mut all: Vec<u64> = spans.iter().map(|span| span.response_time_us).collect();
    all.sort_unstable();
    let mut total = answer["total"].clone();
    total["route"] = json!("all");
    compare(&total, &all, place);

    errors.sort_unstable_by(f64::total_cmp);
    let median = (errors[errors.len() / 2] + errors[(errors.len() - 1) / 2]) / 2.0;
    let largest = errors[errors.len() - 1];
    println!(
        "{place}: {} percentiles, median error {:.2} %, largest {:.2} %",
        errors.len(),
        median * 100.0,
        largest * 100.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_days_of_a_real_system_are_counted_exactly_and_their_percentiles_are_within_the_bound() {
    let Some(path) = data::file("trainticket/http_spans_2023-01-29_30.csv.gz") else { return };
    let spans = spans(&path, at(crate::harness::NOW));
    assert_eq!(spans.len(), 78_160);
    let app = TestApp::start().await;
    for batch in spans.chunks(BATCH) {
        app.accept(&batch.iter().map(record).collect::<Vec<_>>()).await;
    }
    assert_exact(&app, &spans, "before the fold").await;
    app.fold().await;
    assert_exact(&app, &spans, "after the fold").await;
    app.refresh().await;
    let seen = app.database.number("SELECT sum(request_count)::bigint FROM endpoint_daily_stats").await;
    assert_eq!(seen, 78_160, "the daily view holds both days");
    assert_exact(&app, &spans, "after the refresh").await;
    app.stop().await;
}
