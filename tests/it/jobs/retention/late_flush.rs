//! A replica that has not heard yet that a day is gone.

use chrono::TimeDelta;
use endpoint_stats::domain::{EndpointId, Fingerprint};
use endpoint_stats::jobs::Job;
use endpoint_stats::store::{BatchKey, BatchOutcome, FlushBatch, Horizons, RequestRow, Store, StoreConfig};

use super::{is_there, perform, table};
use crate::harness::{Database, NOW, TestApp, at};

/// A replica's store, with the horizons as they are now.
async fn store(database: &Database) -> Store {
    let store = Store::new(&StoreConfig { url: database.url().to_owned(), pool_min: 0, pool_max: 2 }).unwrap();
    store.advance_horizons(Horizons::default(), false).await.unwrap();
    store
}

/// Rows of a day so many days before [`NOW`].
fn rows(days_before: i64, count: usize) -> Vec<RequestRow> {
    let row = RequestRow {
        timestamp: at(NOW) - TimeDelta::days(days_before),
        endpoint: EndpointId(1),
        status: 200,
        response_time_us: Some(7),
        trace_id: None,
    };
    vec![row; count]
}

async fn flushes_onto_a_dropped_day(known: bool, many: usize) {
    let app = TestApp::start().await;
    let database = &app.database;
    app.jobs.synchronise().await.unwrap();
    let replica = store(database).await;
    if known {
        replica.flush(&[FlushBatch { rows: rows(30, 1), key: None }]).await.unwrap();
    }
    app.clock.advance(TimeDelta::days(1));
    assert_eq!(perform(&app, Job::Retention).await.rows, u64::from(known));
    assert!(!is_there(database, &table(30)).await);

    let mut both = rows(30, many);
    both.extend(rows(1, many));
    let key = BatchKey { key: "late".to_owned(), body_hash: Fingerprint::of(b"late"), answer: "{}".to_owned() };
    let batch = FlushBatch { rows: both, key: Some(key) };
    let outcomes = replica.flush(std::slice::from_ref(&batch)).await.expect("it is stored");
    assert_eq!(outcomes, [BatchOutcome::Stored]);
    assert!(!is_there(database, &table(30)).await, "the day must not come back");
    let many = many as i64;
    assert_eq!(database.number("SELECT count(*) FROM requests").await, many);
    let counted = format!(
        "SELECT sum(request_count)::bigint FROM rollup_deltas WHERE bucket < '{NOW}'::timestamptz - interval '2 days'"
    );
    assert_eq!(database.number(&counted).await, many + i64::from(known));
    // Told anew, it goes on without a second try; and the batch is known.
    assert_eq!(replica.horizons(), app.store.horizons());
    assert_eq!(replica.flush(&[batch]).await.unwrap(), [BatchOutcome::Replayed("{}".to_owned())]);
    replica.close().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_knew_a_dropped_day_counts_its_records_and_leaves_their_rows_out() {
    flushes_onto_a_dropped_day(true, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_does_one_that_writes_in_bulk() {
    flushes_onto_a_dropped_day(true, 3_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_did_not_know_a_dropped_day_does_not_make_it_again() {
    flushes_onto_a_dropped_day(false, 10).await;
}
