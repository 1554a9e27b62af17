//! Statistics, dead rows, indexes, and whether the rollups are right.

use endpoint_stats::jobs::Job;
use endpoint_stats::store::Outcome;
use reqwest::Method;

use crate::harness::servers::PrivateRedis;
use crate::harness::{Setup, TestApp, record, until};
use crate::jobs::{perform, run};

async fn succeeds(app: &TestApp, job: Job) -> u64 {
    perform(app, job).await.rows
}

async fn with_some_days() -> TestApp {
    let app = TestApp::start().await;
    for day in ["19", "20", "21"] {
        let routes = ["/a", "/b", "/c"];
        app.accept(&routes.map(|route| record(&format!("2026-11-{day}T10:00:00Z"), route, 5.0))).await;
    }
    app.fold().await;
    app.refresh().await;
    app
}

#[tokio::test]
async fn the_room_that_many_deltas_took_is_given_back_once_few_come() {
    let app = TestApp::start().await;
    app.accept(&[record("2026-11-21T10:00:00Z", "/a", 5.0)]).await;
    let size = async || app.database.number("SELECT pg_relation_size('rollup_deltas')").await;
    let many = "INSERT INTO rollup_deltas
                SELECT '2026-11-21T10:00Z', 1, 1, 0, 0, 0, 1, 5000, 5000, 5000, 0 FROM generate_series(1, 200000)";
    app.database.execute(many).await;
    let full = size().await;
    assert!(full > 16 << 20, "{full}");
    app.fold().await;
    assert_eq!(app.database.number("SELECT COUNT(*) FROM rollup_deltas").await, 0);
    // More of them may be on their way: the room is theirs.
    app.database.execute(many).await;
    assert!(size().await <= full + full / 4, "{} after {full}: the room is used again", size().await);
    app.fold().await;
    until("the room is given back", async || {
        app.fold().await;
        size().await < 1 << 20
    })
    .await;
}

#[tokio::test]
async fn the_planner_is_told_of_each_table_that_changed() {
    let app = with_some_days().await;
    let analyzed = async |table: &str| {
        let statement = format!("SELECT analyze_count FROM pg_stat_user_tables WHERE relname = '{table}'");
        app.database.number(&statement).await
    };
    // What was changed is told to the statistics a moment after the commit.
    let tables = ["endpoint_hourly_stats", "endpoint_minute_stats", "endpoint_daily_stats", "requests_20261120"];
    for table in tables {
        let changed = format!("SELECT n_mod_since_analyze FROM pg_stat_user_tables WHERE relname = '{table}'");
        until(table, async || app.database.number(&changed).await > 0).await;
    }
    let told = succeeds(&app, Job::Analyze).await;
    assert!(told >= 4, "{told}");
    for table in tables {
        until(table, async || analyzed(table).await == 1).await;
        let known = format!("SELECT reltuples::bigint FROM pg_class WHERE relname = '{table}'");
        assert!(app.database.number(&known).await > 0, "{table}");
    }
    // The next has less to do: nothing changed but what the runs themselves write down.
    until("the statistics are seen", async || {
        app.database
            .number(
                "SELECT COUNT(*) FROM pg_stat_user_tables
                 WHERE n_mod_since_analyze > 0 AND (relname ~ '^(requests_|endpoint)' OR relname = 'rollup_deltas')",
            )
            .await
            == 0
    })
    .await;
    assert!(succeeds(&app, Job::Analyze).await <= 1);
}

#[tokio::test]
async fn rollups_and_open_days_are_vacuumed_and_closed_days_are_not() {
    let app = with_some_days().await;
    let vacuumed = async |table: &str| {
        let statement = format!("SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = '{table}'");
        app.database.number(&statement).await
    };
    succeeds(&app, Job::Vacuum).await;
    for table in
        ["rollup_deltas", "endpoint_hourly_stats", "endpoint_daily_stats", "requests_20261120", "requests_20261121"]
    {
        until(table, async || vacuumed(table).await == 1).await;
    }
    assert_eq!(vacuumed("requests_20261119").await, 0);
    let dead = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'rollup_deltas'";
    until("no dead delta", async || app.database.number(dead).await == 0).await;
}

#[tokio::test]
async fn a_bloated_index_is_built_anew_and_what_a_broken_rebuilding_left_is_removed() {
    let app = with_some_days().await;
    app.database
        .execute(
            "INSERT INTO endpoint_hourly_stats
             SELECT '2020-01-01'::timestamptz + n * interval '1 hour', 1, 1, 0, 0, 0, 0, 0, NULL, NULL, 0
             FROM generate_series(1, 50000) AS n;
             DELETE FROM endpoint_hourly_stats WHERE hour < '2026-11-01';
             -- As a rebuilding leaves it that was cut off.
             CREATE UNIQUE INDEX endpoint_hourly_stats_pkey_ccnew ON endpoint_hourly_stats (hour, endpoint_id);
             UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'endpoint_hourly_stats_pkey_ccnew'::regclass;
             -- Invalid, and somebody else's: not ours to remove.
             CREATE INDEX of_somebody_else ON endpoint_hourly_stats (request_count);
             UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'of_somebody_else'::regclass;",
        )
        .await;
    let size = async || app.database.number("SELECT pg_relation_size('endpoint_hourly_stats_pkey')").await;
    let before = size().await;
    assert!(succeeds(&app, Job::Reindex).await >= 8);
    let after = size().await;
    println!("the key of the hours: {before} bytes before, {after} after");
    assert!(after * 20 < before, "{before} before, {after} after");
    let left = "SELECT COUNT(*) FROM pg_class WHERE relname ~ '_cc(new|old)'";
    assert_eq!(app.database.number(left).await, 0);
    let theirs = "SELECT COUNT(*) FROM pg_class WHERE relname = 'of_somebody_else'";
    assert_eq!(app.database.number(theirs).await, 1);
    // The view can be refreshed beside its readers only while its key is whole.
    app.refresh().await;
    let days = app.database.number("SELECT COUNT(*) FROM endpoint_daily_stats").await;
    assert_eq!(days, 9);
}

#[tokio::test]
async fn a_rollup_that_is_wrong_fails_the_run_by_name_and_no_second_try_follows() {
    let app = with_some_days().await;
    assert_eq!(succeeds(&app, Job::Verify).await, 0);
    app.database
        .execute("UPDATE endpoint_hourly_stats SET request_count = request_count + 1 WHERE hour = '2026-11-20T10:00Z'")
        .await;
    let ending = run(&app, Job::Verify).await;
    assert_eq!((ending.outcome, ending.retry_at), (Outcome::Failed, None));
    let told = app.jobs.last_runs(&[Job::Verify], 1).await.unwrap().remove(0);
    let error = told.error.unwrap();
    assert!(error.contains(" differences on 2026-11-20, the first: 2026-11-20T10:00Z shop GET /"), "{error}");
    assert!(error.contains("requests: rollup 2, raw 1 (difference +1)"), "{error}");
    assert_eq!(told.rows, Some(ending.rows));
}

#[tokio::test(flavor = "multi_thread")]
async fn old_answers_go_from_redis_and_with_redis_away_the_run_fails() {
    let redis = PrivateRedis::start();
    let app = TestApp::with(Setup { redis_url: Some(redis.url()), ..Setup::default() }).await;
    let yesterday = "/api/v1/endpoints/top?from=2026-11-20&to=2026-11-21";
    let keys = async || -> i64 {
        let client = redis::Client::open(redis.url()).unwrap();
        redis::cmd("DBSIZE").query_async(&mut client.get_multiplexed_async_connection().await.unwrap()).await.unwrap()
    };
    // One answer before a closed day changed, one after it; and what is last known of the question.
    for route in ["/a", "/b"] {
        app.accept(&[record("2026-11-20T10:00:00Z", route, 5.0)]).await;
        app.fold().await;
        app.jobs.synchronise().await.unwrap();
        app.request(Method::GET, yesterday).send().await.unwrap();
    }
    until("both answers are kept", async || keys().await == 3).await;
    assert_eq!(succeeds(&app, Job::CacheCleanup).await, 1);
    assert_eq!(keys().await, 2);

    drop(redis);
    let ending = run(&app, Job::CacheCleanup).await;
    assert_eq!(ending.outcome, Outcome::Failed);
    assert!(ending.error.unwrap().starts_with("Redis cannot be reached"));
}
