//! Readers and ingest go on while retention runs, also while it has to wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use endpoint_stats::jobs::Job;
use endpoint_stats::store::Outcome;
use tokio_util::sync::CancellationToken;

use super::{fill_day, is_there, perform, table};
use crate::harness::{Database, NOW, TestApp, at, record};
use crate::jobs::run;

/// Longer than anybody may wait because of retention.
const TOO_LONG: Duration = Duration::from_secs(1);

/// Asks until told to stop; returns how often, and the longest wait.
async fn read(app: Arc<TestApp>, done: CancellationToken) -> (u32, Duration) {
    let (mut asked, mut slowest) = (0, Duration::ZERO);
    while !done.is_cancelled() {
        for path in [
            "/api/v1/endpoints/top?window=30d",
            "/api/v1/endpoints/top?window=1h",
            "/api/v1/overview?window=90d",
            "/api/v1/endpoints/1/requests?window=90d",
        ] {
            let began = Instant::now();
            app.get(path).await;
            slowest = slowest.max(began.elapsed());
            asked += 1;
        }
    }
    (asked, slowest)
}

/// Sends records until told to stop, each second of a day that has to be made; returns how many batches, and the longest wait.
async fn ingest(app: Arc<TestApp>, done: CancellationToken) -> (u32, Duration) {
    let (mut sent, mut slowest) = (0, Duration::ZERO);
    let began_at = Instant::now();
    while !done.is_cancelled() {
        // Attaching a new day needs a lock that detaching an old one takes as well.
        let days_before = began_at.elapsed().as_secs() % 28;
        let timestamp = (at(NOW) - TimeDelta::days(days_before as i64)).to_rfc3339();
        let began = Instant::now();
        app.accept(&[record(&timestamp, "/items/{id}", 1.0)]).await;
        slowest = slowest.max(began.elapsed());
        sent += 1;
    }
    (sent, slowest)
}

/// Watches who keeps everybody out of what others use, every few milliseconds; returns how often it looked, and for how long
/// it saw whom kept out of what, at most.
async fn watch(database: Arc<Database>, done: CancellationToken) -> (u32, HashMap<String, Duration>) {
    let client = database.connect().await;
    let held = client
        .prepare(
            "SELECT relation::regclass::text, pid, virtualtransaction FROM pg_locks
             WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database())
               AND mode = 'AccessExclusiveLock' AND granted AND relation IN (
                 SELECT 'requests'::regclass UNION ALL SELECT 'endpoint_minute_stats'::regclass
                 UNION ALL SELECT 'endpoint_hourly_stats'::regclass
                 UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = 'requests'::regclass AND NOT inhdetachpending)",
        )
        .await
        .unwrap();
    let mut since: HashMap<(String, i32, String), Instant> = HashMap::new();
    let (mut looks, mut longest) = (0, HashMap::new());
    while !done.is_cancelled() {
        let rows = client.query(&held, &[]).await.unwrap();
        let now: Vec<(String, i32, String)> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
        since.retain(|lock, _| now.contains(lock));
        for lock in now {
            let name = lock.0.clone();
            let held = since.entry(lock).or_insert_with(Instant::now).elapsed();
            let longest: &mut Duration = longest.entry(name).or_default();
            *longest = held.max(*longest);
        }
        looks += 1;
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    (looks, longest)
}

/// Does `work` while others read, write and watch; asserts that none of them was held up.
async fn beside<T>(app: &Arc<TestApp>, work: impl Future<Output = T>) -> T {
    let done = CancellationToken::new();
    let reads = tokio::spawn(read(Arc::clone(app), done.clone()));
    let writes = tokio::spawn(ingest(Arc::clone(app), done.clone()));
    let watched = tokio::spawn(watch(Arc::clone(&app.database), done.clone()));
    // So that all three are at it.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let did = work.await;
    done.cancel();
    let ((asked, slowest_read), (sent, slowest_write)) = (reads.await.unwrap(), writes.await.unwrap());
    let (looks, longest) = watched.await.unwrap();
    println!("slowest of {asked} reads {slowest_read:?}, of {sent} batches {slowest_write:?}");
    println!("{looks} looks at the locks saw {longest:?}");
    assert!(asked > 0 && sent > 0 && looks > 0);
    assert!(slowest_read < TOO_LONG && slowest_write < TOO_LONG, "{slowest_read:?}, {slowest_write:?}");
    assert!(!longest.contains_key("requests"), "{longest:?}");
    assert!(longest.values().all(|held| *held < Duration::from_millis(100)), "{longest:?}");
    did
}

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
    assert!(ending.retry_at.is_some() && ending.took < Duration::from_secs(20), "{ending:?}");
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
