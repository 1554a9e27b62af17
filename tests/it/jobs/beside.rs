//! Readers and ingest go on while any job runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use endpoint_stats::jobs::Job;
use endpoint_stats::store::Outcome;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::harness::{Database, NOW, TestApp, at, record};
use crate::jobs::measured::at_most;
use crate::jobs::run;

/// Longer than anybody may wait because of maintenance, where nothing else runs.
const TOO_LONG: Duration = Duration::from_millis(500);

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
                 SELECT unnest('{requests,endpoints,rollup_deltas,endpoint_minute_stats,endpoint_hourly_stats,endpoint_daily_stats,
                     stale_days,rollup_state,ingest_batches}'::regclass[])
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
pub async fn beside<T>(app: &Arc<TestApp>, work: impl Future<Output = T>) -> T {
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
    assert!(slowest_read.max(slowest_write) < at_most(TOO_LONG), "{slowest_read:?}, {slowest_write:?}");
    assert!(!longest.contains_key("requests"), "{longest:?}");
    assert!(longest.values().all(|held| *held < at_most(Duration::from_millis(100))), "{longest:?}");
    did
}

/// Thirty days of two hundred endpoints, two days of minutes, a closed day of 500,000 raw requests without its index, deltas
/// not folded, and a yesterday that came in through the front door, so that it can be verified.
async fn with_a_month() -> Arc<TestApp> {
    let app = Arc::new(TestApp::start().await);
    let yesterday: Vec<Value> = (0..20_000)
        .map(|n: i64| {
            let timestamp = at("2026-11-20T00:00:00Z") + TimeDelta::seconds(n * 4);
            record(&timestamp.to_rfc3339(), &format!("/items/{}", n % 200), (n % 1_000) as f64)
        })
        .collect();
    app.accept(&yesterday).await;
    app.fold().await;
    let rows = |table: &str, bucket: &str, count: i64, until: &str| {
        format!(
            "INSERT INTO {table} ({bucket}, endpoint_id, request_count, redirect_count, client_error_count, error_count,
                 timed_count, total_response_time_us, min_response_time_us, max_response_time_us, latency_histogram)
             SELECT '{until}'::timestamptz - n / 200 * interval '1 {bucket}', 1 + n % 200, 9, 0, 0, 0, 9, 9000, 1000, 1000, 10 ^ (12 * (80 + n % 9)::numeric)
             FROM generate_series(0, {count} - 1) AS n"
        )
    };
    // The last hour before yesterday, and back from there.
    app.database.execute(&rows("endpoint_hourly_stats", "hour", 144_000, "2026-11-19T23:00Z")).await;
    app.database.execute(&rows("endpoint_minute_stats", "minute", 300_000, "2026-11-19T23:59Z")).await;
    app.database
        .execute(
            "SELECT ensure_requests_day('2026-11-18');
             INSERT INTO requests_20261118 (timestamp, response_time_us, endpoint_id, status)
             SELECT '2026-11-18T00:00Z'::timestamptz + n * interval '100 ms', n, 1 + n % 200, 200 FROM generate_series(1, 500000) AS n;
             INSERT INTO rollup_deltas
             SELECT '2026-11-21T10:18Z'::timestamptz, 1 + n % 200, 1, 0, 0, 0, 1, 1000, 1000, 1000, 10 ^ (12 * 80::numeric)
             FROM generate_series(1, 50000) AS n",
        )
        .await;
    app
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_and_ingest_go_on_while_any_job_runs() {
    let app = with_a_month().await;
    for job in Job::ALL {
        let ending = beside(&app, run(&app, job)).await;
        println!("  while {job} took {:.2?} for {} {}", ending.took, ending.rows, job.rows_are());
        assert_eq!(ending.outcome, Outcome::Succeeded, "{job}: {:?}", ending.error);
        // Where it says nothing was done, nothing was shown either.
        let had_work = !matches!(job, Job::CacheCleanup | Job::Housekeeping | Job::Verify);
        assert!(!had_work || ending.rows > 0, "{job}");
    }
}
