//! What a run leaves that dies in the middle.

use endpoint_stats::jobs::Job;

use super::{fill_day, is_there, perform, table};
use crate::harness::{Database, TestApp};

/// The comment by which a run finds the days that another has begun to drop.
const MARK: &str = "endpoint-stats is dropping this day: it is older than RETENTION_RAW.";

async fn pending(database: &Database) -> i64 {
    database.number("SELECT count(*) FROM pg_inherits WHERE inhdetachpending").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detach_that_was_cut_off_is_finished_by_the_next_run() {
    let app = TestApp::start().await;
    let database = &app.database;
    for days_before in [38, 39, 40] {
        fill_day(database, days_before, 100).await;
    }
    let reader = database.connect().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM requests").await.unwrap();
    let detach = format!("ALTER TABLE requests DETACH PARTITION {} CONCURRENTLY", table(38));
    let cut_off = database.connect().await;
    cut_off.batch_execute("SET lock_timeout = '100ms'").await.unwrap();
    cut_off.batch_execute(&detach).await.expect_err("the reader is in the way");
    reader.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(pending(database).await, 1);

    assert_eq!(perform(&app, Job::Retention).await.rows, 3);
    assert_eq!(pending(database).await, 0);
    for days_before in [38, 39, 40] {
        assert!(!is_there(database, &table(days_before)).await, "{days_before}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_was_detached_and_not_dropped_is_dropped_by_the_next_run_and_what_others_detached_is_not() {
    let app = TestApp::start().await;
    let database = &app.database;
    for days_before in [5, 37, 38, 39, 40] {
        fill_day(database, days_before, 100).await;
    }
    let (young, marked, archived, attached) = (table(5), table(38), table(39), table(40));
    for detached in [&young, &marked, &archived] {
        database.execute(&format!("ALTER TABLE requests DETACH PARTITION {detached} CONCURRENTLY")).await;
    }
    for marked in [&young, &marked] {
        database.execute(&format!("COMMENT ON TABLE {marked} IS '{MARK}'")).await;
    }
    // Names that are nearly right, a table of another schema, a partition of something else: all with the mark.
    database
        .execute(&format!(
            "CREATE TABLE requests_2026101 (n int); COMMENT ON TABLE requests_2026101 IS '{MARK}';
             CREATE TABLE requests_20261399 (n int); COMMENT ON TABLE requests_20261399 IS '{MARK}';
             CREATE TABLE requests_20260101_kept (n int); COMMENT ON TABLE requests_20260101_kept IS '{MARK}';
             CREATE VIEW requests_20260102 AS SELECT 1 AS n; COMMENT ON VIEW requests_20260102 IS '{MARK}';
             CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.requests_20260103 (n int);
             COMMENT ON TABLE elsewhere.requests_20260103 IS '{MARK}';
             CREATE TABLE others (n int) PARTITION BY LIST (n);
             CREATE TABLE requests_20260104 PARTITION OF others FOR VALUES IN (1);
             COMMENT ON TABLE requests_20260104 IS '{MARK}'"
        ))
        .await;
    assert_eq!(perform(&app, Job::Retention).await.rows, 3, "the marked one and the two that are attached");
    for (name, stays) in [
        (young.as_str(), true),
        (&marked, false),
        (&archived, true),
        (&attached, false),
        (&table(37), false),
        ("requests_2026101", true),
        ("requests_20261399", true),
        ("requests_20260101_kept", true),
        ("requests_20260102", true),
        ("requests_20260103", true),
        ("requests_20260104", true),
    ] {
        assert_eq!(is_there(database, name).await, stays, "{name}");
    }
    app.stop().await;
}
