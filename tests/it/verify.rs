//! `verify` by the real binary: silent where rollups and raw requests agree, precise where they do not.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::harness::{TestApp, at, process};

/// An hour whose requests are all folded.
const FOLDED: &str = "2026-11-18T08";

/// An hour that has both: what is folded and what waits.
const PARTLY_FOLDED: &str = "2026-11-21T09";

/// Of every class that is counted by itself.
const STATUSES: [u16; 5] = [200, 201, 301, 404, 500];

/// Records over four days, by day and hour of two endpoints; some without a response time.
fn records() -> Vec<Value> {
    let mut records = Vec::new();
    for (hour, requests) in [
        (FOLDED, 30),
        ("2026-11-18T23", 10),
        ("2026-11-19T00", 10),
        ("2026-11-19T12", 25),
        ("2026-11-20T23", 40),
        ("2026-11-21T00", 10),
        (PARTLY_FOLDED, 30),
        ("2026-11-21T10", 20),
    ] {
        for n in 0..requests {
            let mut record = json!({
                "timestamp": format!("{hour}:{:02}:{:02}.{:06}Z", n % 20, n % 60, n * 7_919),
                "service": "shop",
                "method": "GET",
                "route": if n % 3 == 0 { "/carts/{id}" } else { "/items/{id}" },
                "status": STATUSES[n % STATUSES.len()],
            });
            if n % 4 != 0 {
                record["response_time_ms"] = json!(((n * n + 1) as f64) * 1.337);
            }
            records.push(record);
        }
    }
    records
}

/// A response time at and just above every edge of the histogram: where Rust's buckets and those that `verify` finds with
/// Postgres' logarithm would part first.
fn records_at_every_edge() -> Vec<Value> {
    (0..291)
        .flat_map(|bucket| {
            let edge = 2f64.powf(f64::from(bucket) / 8.0).floor() as u64;
            [edge, edge + 1, 2 * edge]
        })
        .filter(|us| *us <= 86_400_000_000)
        .map(|us| {
            json!({
                "timestamp": "2026-11-20T12:00:00Z", "service": "edges", "method": "GET", "route": "/", "status": 200,
                "response_time_ms": us as f64 / 1_000.0,
            })
        })
        .collect()
}

/// A database in every state that is good: folded, late records for hours that were folded before, and some not yet folded.
async fn good_database() -> TestApp {
    let app = TestApp::start().await;
    app.accept(&records()).await;
    app.fold().await;
    app.refresh().await;
    let late: Vec<Value> = records().into_iter().step_by(3).collect();
    app.accept(&late).await;
    app.fold().await;
    app.accept(&records_at_every_edge()).await;
    app.accept(&records().split_off(135)).await;
    let database = &app.database;
    assert!(database.number("SELECT count(*) FROM rollup_deltas").await > 0, "nothing waits to be folded");
    assert!(database.number("SELECT count(*) FROM requests WHERE response_time_us IS NULL").await > 0);
    app
}

async fn verify(app: &TestApp, arguments: &[&str]) -> (Option<i32>, String) {
    let done = process::run(&app.database, &[&["verify"], arguments].concat()).await;
    assert_eq!(done.stderr, "");
    (done.code, done.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_database_is_verified_in_silence() {
    let app = good_database().await;
    assert_eq!(verify(&app, &[]).await, (Some(0), String::new()));
    app.fold().await;
    assert_eq!(verify(&app, &[]).await, (Some(0), String::new()));
    app.refresh().await;
    assert_eq!(verify(&app, &[]).await, (Some(0), String::new()));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_in_and_is_folded_while_it_is_verified_is_no_difference() {
    let app = TestApp::start().await;
    let verified = CancellationToken::new();
    let (runs, (), ()) = tokio::join!(
        async {
            let mut runs = Vec::new();
            for _ in 0..6 {
                runs.push(verify(&app, &[]).await);
            }
            verified.cancel();
            runs
        },
        async {
            while !verified.is_cancelled() {
                app.accept(&records()).await;
            }
        },
        async {
            while !verified.is_cancelled() {
                app.fold().await;
            }
        },
    );
    assert!(runs.iter().all(|run| *run == (Some(0), String::new())), "{runs:?}");
    assert!(app.database.number("SELECT count(*) FROM requests").await > 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_is_verified_in_silence() {
    let app = TestApp::start().await;
    assert_eq!(verify(&app, &[]).await, (Some(0), String::new()));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_tampered_with_is_named_with_endpoint_hour_and_difference() {
    let app = good_database().await;
    let items = "(SELECT id FROM endpoints WHERE route = '/items/{id}')";
    let folded = format!("hour = '{FOLDED}:00Z' AND endpoint_id = {items}");
    let in_folded = format!("timestamp >= '{FOLDED}:00Z' AND timestamp < '{FOLDED}:59:59Z' AND endpoint_id = {items}");
    let waiting =
        format!("bucket >= '{PARTLY_FOLDED}:00Z' AND bucket < '{PARTLY_FOLDED}:59Z' AND endpoint_id = {items}");
    let raw = app.database.number(&format!("SELECT count(*) FROM requests WHERE {in_folded}")).await;
    let hour = "2026-11-18T08:00Z shop GET /items/{id}:";

    // Each: what is done, the first line that it must give, and how many lines (`None`: one a counter, which vary).
    let cases = [
        (
            format!("UPDATE endpoint_hourly_stats SET request_count = request_count + 1 WHERE {folded}"),
            format!("{hour} requests: rollup {}, raw {raw} (difference +1)", raw + 1),
            Some(1),
        ),
        (
            format!("UPDATE endpoint_hourly_stats SET latency_histogram = latency_histogram + 1 WHERE {folded}"),
            format!("{hour} latency histogram: rollup …"),
            Some(1),
        ),
        (
            format!("DELETE FROM endpoint_hourly_stats WHERE {folded}"),
            format!("{hour} requests: rollup none, raw {raw}"),
            None,
        ),
        (
            format!(
                "INSERT INTO endpoint_hourly_stats SELECT hour + interval '3 hours', endpoint_id, 7, 0, 0, 0, 0, 0, NULL, NULL, 0
                 FROM endpoint_hourly_stats WHERE {folded}"
            ),
            "2026-11-18T11:00Z shop GET /items/{id}: requests: rollup 7, raw none".to_owned(),
            None,
        ),
        (
            format!(
                "INSERT INTO endpoint_hourly_stats SELECT hour, 987654, 7, 0, 0, 0, 0, 0, NULL, NULL, 0
                 FROM endpoint_hourly_stats WHERE {folded}"
            ),
            "2026-11-18T08:00Z endpoint 987654: requests: rollup 7, raw none".to_owned(),
            None,
        ),
        (
            format!(
                "DELETE FROM requests WHERE {in_folded} AND (timestamp, status) IN
                 (SELECT timestamp, status FROM requests WHERE {in_folded} AND status = 500 LIMIT 1)"
            ),
            format!("{hour} requests: rollup {raw}, raw "),
            None,
        ),
        (
            format!(
                "UPDATE rollup_deltas SET error_count = error_count + 5
                 WHERE ctid = (SELECT ctid FROM rollup_deltas WHERE {waiting} LIMIT 1)"
            ),
            "2026-11-21T09:00Z shop GET /items/{id}: errors: rollup ".to_owned(),
            Some(1),
        ),
        (
            format!("DELETE FROM rollup_deltas WHERE {waiting}"),
            "2026-11-21T09:00Z shop GET /items/{id}: requests: rollup ".to_owned(),
            None,
        ),
    ];
    let tables = ["endpoint_hourly_stats", "requests", "rollup_deltas"];
    for table in tables {
        app.database.execute(&format!("CREATE TABLE good_{table} AS TABLE {table}")).await;
    }
    for (tampering, first_line, lines) in cases {
        app.database.execute(&tampering).await;
        let (code, told) = verify(&app, &[]).await;
        assert_eq!(code, Some(1), "{tampering}: {told}");
        assert!(told.starts_with(&first_line), "{tampering}: expected {first_line}, told {told}");
        let endpoint_and_hour = first_line.split(": ").next().unwrap();
        assert!(told.lines().all(|line| line.starts_with(endpoint_and_hour)), "more than was done is told: {told}");
        assert!(lines.is_none_or(|lines| told.lines().count() == lines), "{tampering}: {told}");
        for table in tables {
            app.database.execute(&format!("TRUNCATE {table}; INSERT INTO {table} TABLE good_{table}")).await;
        }
        assert_eq!(verify(&app, &[]).await, (Some(0), String::new()), "restored after {tampering}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_differences_are_printed_than_asked_for() {
    let app = good_database().await;
    app.database.execute("UPDATE endpoint_hourly_stats SET request_count = request_count + 1").await;
    let (code, told) = verify(&app, &["--limit", "3"]).await;
    assert_eq!((code, told.lines().count()), (Some(1), 4), "{told}");
    assert!(told.lines().last().unwrap().contains("--limit"), "{told}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn days_whose_raw_requests_are_no_longer_kept_are_not_compared() {
    let app = TestApp::start().await;
    let old = at(crate::harness::NOW) - TimeDelta::days(60);
    app.accept(&[crate::harness::record(&old.to_rfc3339(), "/items/{id}", 3.5)]).await;
    app.fold().await;
    assert_eq!(app.database.number("SELECT count(*) FROM endpoint_hourly_stats").await, 1);
    assert_eq!(app.database.number("SELECT count(*) FROM requests").await, 0);
    assert_eq!(verify(&app, &[]).await, (Some(0), String::new()));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn minutes_and_the_daily_view_are_compared_with_the_hours() {
    let app = TestApp::start().await;
    app.accept(&records()).await;
    app.fold().await;
    app.refresh().await;
    assert_eq!(verify(&app, &[]).await, (Some(0), String::new()));

    let minute =
        "minute = '2026-11-21T09:00Z' AND endpoint_id = (SELECT id FROM endpoints WHERE route = '/carts/{id}')";
    app.database
        .execute(&format!("UPDATE endpoint_minute_stats SET error_count = error_count + 3 WHERE {minute}"))
        .await;
    let (code, told) = verify(&app, &[]).await;
    assert_eq!((code, told.lines().count()), (Some(1), 1), "{told}");
    assert!(told.starts_with("2026-11-21T09:00Z shop GET /carts/{id}: errors: minutes "), "{told}");
    assert!(told.ends_with("(difference +3)\n"), "{told}");

    // The view speaks for the day, so it is compared; had the change come through a fold, the day would be stale.
    app.database
        .execute(&format!("UPDATE endpoint_minute_stats SET error_count = error_count - 3 WHERE {minute}"))
        .await;
    app.database
        .execute("UPDATE endpoint_hourly_stats SET request_count = request_count + 1 WHERE hour = '2026-11-19T12:00Z'")
        .await;
    let (_, told) = verify(&app, &["--limit", "100"]).await;
    assert!(told.contains("2026-11-19T00:00Z shop GET /items/{id}: requests: daily view "), "{told}");
    assert!(told.contains("2026-11-19T12:00Z shop GET /items/{id}: requests: minutes "), "{told}");
    assert!(told.contains("2026-11-19T12:00Z shop GET /items/{id}: requests: rollup "), "{told}");
    app.stop().await;
}
