//! Readers and ingest go on while retention runs, also while it has to wait.

use std::sync::Arc;
use std::time::Duration;

use endpoint_stats::jobs::Job;
use endpoint_stats::store::Outcome;
use tokio_util::sync::CancellationToken;

use super::{fill_day, is_there, perform, table};
use crate::harness::{NOW, TestApp, record};
use crate::jobs::beside::beside;
use crate::jobs::run;

#[tokio::test(flavor = "multi_thread")]
async fn while_days_are_dropped_and_rows_deleted_reads_and_ingest_go_on() {
    let app = Arc::new(TestApp::start().await);
    app.accept(&[record(NOW, "/items/{id}", 1.0)]).await;
    for days_before in 31..45 {
        fill_day(&app.database, days_before, if days_before == 40 { 1_000_000 } else { 1_000 }).await;
    }
    let old = |table: &str, bucket: &str, step: &str, before: &str| {
        format!(
            "INSERT INTO {table} ({bucket}, endpoint_id, request_count, redirect_count, client_error_count, error_count,
                 timed_count, total_response_time_us, latency_histogram)
             SELECT '{NOW}'::timestamptz - interval '{before}' - n / 50 * interval '{step}', n % 50, 1, 0, 0, 0, 0, 0,
                 10 ^ (12 * (n % 60)::numeric)
             FROM generate_series(1, 300000) AS n"
        )
    };
    app.database.execute(&old("endpoint_minute_stats", "minute", "1 minute", "3 days")).await;
    app.database.execute(&old("endpoint_hourly_stats", "hour", "1 hour", "401 days")).await;

    let ending = beside(&app, run(&app, Job::Retention)).await;
    println!("{} rows and days in {:?}", ending.rows, ending.took);
    assert_eq!(ending.outcome, Outcome::Succeeded, "{:?}", ending.error);
    assert_eq!(ending.rows, 14 + 2 * 300_000);
    assert_eq!(app.database.number("SELECT count(*) FROM endpoint_minute_stats WHERE minute < '2026-11-19'").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_reader_makes_the_run_wait_and_fail_but_nobody_else_and_the_next_one_finishes() {
    let app = Arc::new(TestApp::start().await);
    app.accept(&[record(NOW, "/items/{id}", 1.0)]).await;
    fill_day(&app.database, 39, 1_000).await;
    fill_day(&app.database, 40, 1_000).await;
    let reader = app.database.connect().await;
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM requests").await.unwrap();
    app.database
        .execute(
            "INSERT INTO endpoint_minute_stats (minute, endpoint_id, request_count, redirect_count, client_error_count,
                 error_count, timed_count, total_response_time_us, latency_histogram)
             VALUES ('2026-11-01T00:00Z', 1, 1, 0, 0, 0, 0, 0, 0)",
        )
        .await;

    let ending = beside(&app, run(&app, Job::Retention)).await;
    println!("gave up after {:?}: {:?}", ending.took, ending.error);
    assert_eq!(ending.outcome, Outcome::Failed);
    assert!(ending.error.as_ref().is_some_and(|error| error.starts_with(&table(40))), "{:?}", ending.error);
    assert!(ending.took < Duration::from_secs(20), "{ending:?}");
    // What nobody is in the way of is done.
    assert_eq!(ending.rows, 1);
    // The reader sees what it saw.
    let old = "SELECT count(*) FROM requests WHERE timestamp < '2026-10-20'";
    let seen: i64 = reader.query_one(old, &[]).await.unwrap().get(0);
    assert_eq!(seen, 2_000);
    reader.batch_execute("COMMIT").await.unwrap();

    assert_eq!(perform(&app, Job::Retention).await.rows, 2);
    assert!(!is_there(&app.database, &table(40)).await && !is_there(&app.database, &table(39)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn folds_of_old_hours_and_retention_do_not_get_into_a_deadlock() {
    let app = Arc::new(TestApp::start().await);
    let done = CancellationToken::new();
    let folds = tokio::spawn({
        let (app, done) = (Arc::clone(&app), done.clone());
        async move {
            let mut folds = 0;
            while !done.is_cancelled() {
                // Of hours that are no longer told, in an order of their own.
                let deltas = format!(
                    "INSERT INTO rollup_deltas
                     SELECT date_trunc('hour', '{NOW}'::timestamptz - interval '401 days') - n % 500 * interval '1 hour',
                         n % 7, 1, 0, 0, 0, 0, 0, NULL, NULL, 0
                     FROM generate_series(1, 3500) AS n ORDER BY random()"
                );
                app.database.execute(&deltas).await;
                app.fold().await;
                folds += 1;
            }
            folds
        }
    });
    let mut deleted = 0;
    for _ in 0..40 {
        deleted += perform(&app, Job::Retention).await.rows;
    }
    done.cancel();
    println!("{} folds beside 40 runs that deleted {deleted} hours", folds.await.unwrap());
    app.fold().await;
    perform(&app, Job::Retention).await;
    assert_eq!(app.database.number("SELECT count(*) FROM endpoint_hourly_stats").await, 0);
}
