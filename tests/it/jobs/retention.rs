//! What is past its keep goes, no answer changes by it, and nobody waits for it.

mod beside_others;
mod cut_off;
mod late_flush;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use endpoint_stats::jobs::{Begun, Job, Jobs, JobsConfig, Progress, Retention};
use endpoint_stats::store::{Ending, Outcome};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::measured::at_most;
use super::perform;
use crate::harness::{Database, NOW, Setup, TestApp, at, process, record};

/// Days before [`NOW`] at which data begins.
const DAYS: i64 = 40;

/// What the data is kept for: [`LATER`], 25 days of raw requests, 5 of minutes and 35 of hours are left of it.
fn retention() -> Retention {
    let days = |days| Some(TimeDelta::days(days));
    Retention { raw: days(50), minutes: days(30), hours: days(60) }
}

/// How much later retention is run.
const LATER: TimeDelta = TimeDelta::days(25);

/// The table of a day so many days before [`NOW`].
fn table(days_before: i64) -> String {
    (at(NOW) - TimeDelta::days(days_before)).format("requests_%Y%m%d").to_string()
}

async fn is_there(database: &Database, table: &str) -> bool {
    database.number(&format!("SELECT count(*) FROM pg_class WHERE relname = '{table}'")).await == 1
}

/// Makes a day so many days before [`NOW`], with rows of one endpoint.
async fn fill_day(database: &Database, days_before: i64, rows: i64) {
    let day = (at(NOW) - TimeDelta::days(days_before)).date_naive();
    database
        .execute(&format!(
            "SELECT ensure_requests_day('{day}');
             INSERT INTO {} (timestamp, response_time_us, endpoint_id, status)
             SELECT '{day}'::timestamp AT TIME ZONE 'UTC' + n * (interval '23 hours' / {rows}), n, 1, 200
             FROM generate_series(1, {rows}) AS n",
            table(days_before)
        ))
        .await;
}

/// Records of every hour of [`DAYS`] days, also of its first minute.
fn records() -> Vec<Value> {
    let mut records = Vec::new();
    for hour in 0..DAYS * 24 {
        for n in 0..3 {
            let timestamp: DateTime<Utc> =
                at(NOW) - TimeDelta::hours(hour) - TimeDelta::seconds([0, 420, 1_230][n as usize]);
            records.push(json!({
                "timestamp": timestamp,
                "service": (["shop", "search"][(hour % 2) as usize]),
                "method": "GET",
                "route": (["/", "/items/{id}", "/carts/{id}"][n as usize]),
                "status": ([200, 404, 500, 302][((hour + n) % 4) as usize]),
                "response_time_ms": ((hour * 37 + n * 11) % 900) as f64 + 0.5,
            }));
        }
    }
    records
}

/// Questions on every side of every horizon.
fn questions(now: DateTime<Utc>) -> Vec<String> {
    let mut questions = Vec::new();
    let windows =
        ["1h", "24h", "7d", "30d", "45d", "60d", "61d", "90d", "400d"].map(|window| format!("window={window}"));
    let text = |instant: DateTime<Utc>| instant.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    // The horizons of raw requests, minutes and hours, and a little around them.
    let edges = [50, 30, 60].into_iter().flat_map(|days| {
        [-1_441, -61, -1, 0, 1, 61, 1_441].map(|minutes| {
            let midnight = (now - TimeDelta::days(days)).date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
            let edge = if days == 30 { at("2026-11-16T10:00:00Z") } else { midnight } + TimeDelta::minutes(minutes);
            format!("from={}&to={}", text(edge), text(edge + TimeDelta::minutes(2_983)))
        })
    });
    for window in windows.into_iter().chain(edges) {
        questions.push(format!("/api/v1/endpoints/top?limit=100&{window}"));
        questions.push(format!("/api/v1/endpoints/top?by=p95&compare=previous&{window}"));
        questions.push(format!("/api/v1/overview?{window}"));
        questions.push(format!("/api/v1/endpoints/1?{window}"));
        questions.push(format!("/api/v1/endpoints/1/series?{window}"));
        questions.push(format!("/api/v1/endpoints/2/series?step=1d&{window}"));
        questions.extend(
            ["newest", "slowest", "failed"]
                .map(|by| format!("/api/v1/endpoints/3/requests?limit=1000&by={by}&{window}")),
        );
    }
    questions.push("/api/v1/daily?limit=10000&from=2026-09-01&to=2026-12-31".to_owned());
    questions
}

async fn answers(app: &TestApp) -> Vec<(String, Value)> {
    let mut answers = Vec::new();
    for question in questions(app.clock.now()) {
        let answer = app.get(&question).await;
        answers.push((question, answer));
    }
    answers
}

/// Runs retention as if a person had asked for it; returns how it ended and what it said last.
async fn told(app: &TestApp) -> (Ending, String) {
    app.jobs.synchronise().await.unwrap();
    let Begun::Won(run) = app.jobs.begin(Job::Retention, true).await.unwrap() else { panic!("it runs") };
    let (progress, said) = watch::channel(Progress::default());
    let ended = run.perform(&CancellationToken::new(), Some(progress)).await;
    let said = said.borrow().at.clone();
    (ended.ending, said)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_past_its_keep_goes_the_rest_stays_and_no_answer_changes() {
    let app = TestApp::with(Setup { retention: retention(), ..Setup::default() }).await;
    let database = &app.database;
    app.accept(&records()).await;
    app.fold().await;
    app.refresh().await;
    app.clock.advance(LATER);
    app.refresh().await;
    // As the service does every two seconds: from then on nothing older is told.
    app.jobs.synchronise().await.unwrap();
    let before = answers(&app).await;
    let count = |table: &str, condition: &str| format!("SELECT count(*) FROM {table} WHERE {condition}");
    let told_of = |answers: &[(String, Value)]| {
        let mut found = [0; 2];
        for (question, answer) in answers {
            found[0] += answer["requests"].as_array().map_or(0, Vec::len);
            found[1] += answer["rows"].as_array().map_or(0, Vec::len) * usize::from(question.contains("/daily"));
        }
        found
    };
    assert!(told_of(&before).into_iter().all(|found| found > 0), "there is something to tell: {:?}", told_of(&before));

    let old_minutes = count("endpoint_minute_stats", "minute < '2026-11-16T10:00Z'");
    let old_hours = count("endpoint_hourly_stats", "hour < '2026-10-17T00:00Z'");
    let kept_minutes = count("endpoint_minute_stats", "minute >= '2026-11-16T10:00Z'");
    let kept_hours = count("endpoint_hourly_stats", "hour >= '2026-10-17T00:00Z'");
    let kept_requests = count("requests", "timestamp >= '2026-10-27T00:00Z'");
    let (mut gone, mut kept) = (Vec::new(), Vec::new());
    for statement in [&old_minutes, &old_hours] {
        gone.push(database.number(statement).await);
    }
    for statement in [&kept_minutes, &kept_hours, &kept_requests] {
        kept.push(database.number(statement).await);
    }
    assert!(gone.iter().chain(&kept).all(|count| *count > 0), "{gone:?} {kept:?}");

    let (ending, said) = told(&app).await;
    assert_eq!(ending.outcome, Outcome::Succeeded, "{:?}", ending.error);
    println!("{said}");
    // Of 41 days that were begun, those before the 27th of October.
    for days_before in 0..=DAYS {
        assert_eq!(is_there(database, &table(days_before)).await, days_before <= 25, "{}", table(days_before));
    }
    assert_eq!(ending.rows as i64, 15 + gone[0] + gone[1]);
    assert!(said.ends_with(&format!("15 days, {} minutes, {} hours", gone[0], gone[1])), "{said}");
    for statement in [&old_minutes, &old_hours] {
        assert_eq!(database.number(statement).await, 0, "{statement}");
    }
    for (statement, kept) in [&kept_minutes, &kept_hours, &kept_requests].into_iter().zip(kept) {
        assert_eq!(database.number(statement).await, kept, "{statement}");
    }
    let changed = answers(&app).await.into_iter().zip(before).filter(|(after, before)| after != before);
    let changed: Vec<_> = changed.collect();
    assert!(changed.is_empty(), "{} answers changed, first {:#?}", changed.len(), changed[0]);
    let verified = process::run(database, &["verify"]).await;
    assert_eq!((verified.code, verified.stdout.as_str()), (Some(0), ""), "{}", verified.stderr);
    // There is nothing left to do.
    assert_eq!(perform(&app, Job::Retention).await.rows, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_on_the_edge_stays_until_its_last_moment_is_past_the_keep() {
    let keep = Retention { raw: Some(TimeDelta::days(1)), minutes: None, hours: None };
    let app =
        TestApp::with(Setup { now: at("2026-11-21T23:59:59.999999Z"), retention: keep, ..Setup::default() }).await;
    fill_day(&app.database, 1, 10).await;
    fill_day(&app.database, 2, 10).await;
    assert_eq!(perform(&app, Job::Retention).await.rows, 1);
    assert!(is_there(&app.database, &table(1)).await && !is_there(&app.database, &table(2)).await);
    app.clock.advance(TimeDelta::microseconds(1));
    assert_eq!(perform(&app, Job::Retention).await.rows, 1);
    assert!(!is_there(&app.database, &table(1)).await);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_is_kept_nothing_goes() {
    let keep = Retention { raw: None, minutes: None, hours: None };
    let app = TestApp::with(Setup { retention: keep, ..Setup::default() }).await;
    fill_day(&app.database, 380, 10).await;
    app.accept(&records()).await;
    app.fold().await;
    assert_eq!(perform(&app, Job::Retention).await.rows, 0);
    assert_eq!(app.database.number("SELECT count(*) FROM requests").await, DAYS * 24 * 3 + 10);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_by_somebody_with_a_shorter_retention_deletes_nothing_that_the_service_keeps() {
    let app = TestApp::start().await;
    app.accept(&records()).await;
    app.fold().await;
    app.jobs.synchronise().await.unwrap();
    let counts = async || {
        [
            app.database.number("SELECT count(*) FROM requests").await,
            app.database.number("SELECT count(*) FROM endpoint_minute_stats").await,
            app.database.number("SELECT count(*) FROM endpoint_hourly_stats").await,
        ]
    };
    let before = counts().await;
    let day = Some(TimeDelta::days(1));
    let config = JobsConfig::new(Retention { raw: day, minutes: day, hours: day });
    let visitor = Jobs::new(Arc::clone(&app.store), app.clock.clock(), config);
    visitor.synchronise_as_visitor().await.unwrap();
    let Begun::Won(run) = visitor.begin(Job::Retention, true).await.unwrap() else { panic!("it runs") };
    let ended = run.perform(&CancellationToken::new(), None).await;
    assert_eq!((ended.ending.outcome, ended.ending.rows), (Outcome::Succeeded, 0));
    assert_eq!(counts().await, before);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_keeps_for_ever_no_command_shortens() {
    let for_ever = Retention { raw: None, minutes: None, hours: None };
    let app = TestApp::with(Setup { retention: for_ever, ..Setup::default() }).await;
    // Also before the first record comes in.
    let file = std::env::temp_dir().join(format!("endpoint-stats-for-ever-{}.ndjson", std::process::id()));
    let old = record("2026-03-01T10:00:00Z", "/old", 5.0);
    std::fs::write(&file, old.to_string()).unwrap();
    for arguments in [&["job", "run", "fold"][..], &["import", file.to_str().unwrap()], &["job", "run", "retention"]] {
        let ran = process::run(&app.database, arguments).await;
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}{}", ran.stdout, ran.stderr);
    }
    std::fs::remove_file(&file).unwrap();
    let kept = "SELECT count(*) FROM rollup_state WHERE is_served AND GREATEST(minutes_since, raw_since, hours_since) = '-infinity'";
    assert_eq!(app.database.number(kept).await, 1);
    assert_eq!(app.database.number("SELECT count(*) FROM requests").await, 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_requests_that_are_kept_longer_than_hours_are_not_verified_against_what_is_gone() {
    let app =
        TestApp::with(Setup { retention: Retention { raw: None, minutes: None, ..retention() }, ..Setup::default() })
            .await;
    app.accept(&records()).await;
    app.fold().await;
    app.clock.advance(LATER);
    assert!(perform(&app, Job::Retention).await.rows > 0);
    let verified = process::run(&app.database, &["verify"]).await;
    assert_eq!((verified.code, verified.stdout.as_str()), (Some(0), ""), "{}", verified.stderr);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_view_lets_go_of_old_days_by_itself_after_the_next_midnight() {
    let app = TestApp::with(Setup { retention: retention(), ..Setup::default() }).await;
    app.accept(&records()).await;
    app.fold().await;
    app.refresh().await;
    app.clock.advance(LATER);
    let old = "SELECT count(*) FROM endpoint_daily_stats WHERE day < '2026-10-17'";
    assert!(app.database.number(old).await > 0);
    perform(&app, Job::Retention).await;
    // No record comes in; the day closes, and the refresh is due.
    app.clock.advance(TimeDelta::days(1));
    perform(&app, Job::Refresh).await;
    assert_eq!(app.database.number(old).await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_two_million_requests_is_dropped_as_fast_as_one_of_a_thousand_and_gives_its_room_back() {
    let app = TestApp::start().await;
    let database = &app.database;
    let mut took = Vec::new();
    for rows in [1_000, 2_000_000] {
        fill_day(database, 40, rows).await;
        let size = "SELECT pg_database_size(current_database())";
        let path = database
            .connect()
            .await
            .query_one(&format!("SELECT pg_relation_filepath('{}')", table(40)), &[])
            .await
            .unwrap()
            .get::<_, String>(0);
        let file = format!("SELECT COALESCE((pg_stat_file('{path}', true)).size, 0)");
        let (database_before, file_before) = (database.number(size).await, database.number(&file).await);
        let (ending, said) = told(&app).await;
        assert_eq!((ending.outcome, ending.rows), (Outcome::Succeeded, 1), "{:?}", ending.error);
        let (database_after, file_after) = (database.number(size).await, database.number(&file).await);
        println!(
            "{rows} rows: dropped in {:?}; the table's file {file_before} → {file_after} bytes, the database {database_before} → {database_after}; \"{said}\"",
            ending.took
        );
        assert_eq!(file_after, 0);
        assert!(database_before - database_after >= file_before, "{database_before} → {database_after}");
        took.push(ending.took);
        app.clock.advance(TimeDelta::seconds(1));
    }
    assert!(took.iter().all(|took| *took < at_most(Duration::from_millis(500))), "{took:?}");
    app.stop().await;
}
