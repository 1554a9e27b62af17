//! SIGTERM while a job has pieces left.

use std::time::Duration;

use super::fleet::{InTheWay, ROLLUPS, Watch};
use crate::harness::{Database, process, until};

/// Deltas of ten pieces.
const DELTAS: i64 = 600_000;

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_a_replica_ends_its_piece_and_another_goes_on() {
    let database = Database::create().await;
    database
        .execute(&format!(
            "INSERT INTO endpoints (service, method, route) VALUES ('shop', 'GET', '/');
             INSERT INTO rollup_deltas SELECT date_trunc('minute', now()), id, 1, 0, 0, 0, 0, 0, NULL, NULL, 0
             FROM endpoints, generate_series(1, {DELTAS})"
        ))
        .await;
    let rollups = InTheWay::of_rollups(&database).await;
    let (mut child, _, mut log) = process::serve_and_log(&database, &[]).await;
    let watch = Watch::on(&database).await;
    // Its refresh too.
    until("the fold waits", async || watch.waiting(ROLLUPS).await == 2).await;
    let fold = async || watch.lines().await.into_iter().find(|line| line.job == "fold").unwrap();
    let slot = fold().await.slot;
    process::signal("TERM", child.id().unwrap());
    while !log.recv().await.expect("it says that it stops").contains("stopping") {}
    rollups.release().await;
    let status = tokio::time::timeout(Duration::from_secs(15), child.wait()).await.expect("stops in time").unwrap();
    assert_eq!(status.code(), Some(0));

    let cut = fold().await;
    assert_eq!((cut.slot, cut.outcome.as_str(), cut.attempts), (slot, "interrupted", 1));
    let (moved, left) = (cut.rows.unwrap(), database.number("SELECT count(*) FROM rollup_deltas").await);
    println!("{moved} moved, {left} left");
    assert!(moved > 0 && left > 0 && moved % 60_000 == 0, "whole pieces: {moved}");
    let told = "SELECT sum(request_count)::bigint FROM endpoint_hourly_stats";
    assert_eq!((moved + left, database.number(told).await), (DELTAS, moved));

    let (_other, _) = process::serve(&database, &[]).await;
    until("another finishes the slot", async || {
        watch.line(endpoint_stats::jobs::Job::Fold, slot).await.unwrap().outcome == "succeeded"
    })
    .await;
    assert_eq!(watch.line(endpoint_stats::jobs::Job::Fold, slot).await.unwrap().attempts, 2);
    assert_eq!(database.number(told).await, DELTAS);
}
