//! Answers while data comes in and moves: ingest, fold and refresh at once, and nothing counts twice or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use tokio_util::sync::CancellationToken;

use super::records;
use crate::harness::TestApp;

/// Batches that are sent, each half into the window and half into the one before.
const BATCHES: i64 = 240;

/// Days whose windows are compared: closed ones, so that the view, stale days, hours and deltas all speak in turn.
const WINDOW: &str = "from=2026-11-20&to=2026-11-21&compare=previous";

/// Sets the flag when dropped, so that a side that fails does not leave the others running.
struct Done(Arc<AtomicBool>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_never_go_down_nor_beyond_what_was_sent_while_data_comes_in_and_moves() {
    let app = Arc::new(TestApp::start().await);
    let (sent, acknowledged) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
    let done = Arc::new(AtomicBool::new(false));

    let ingest = tokio::spawn({
        let (app, sent, acknowledged) = (Arc::clone(&app), Arc::clone(&sent), Arc::clone(&acknowledged));
        let done = Done(Arc::clone(&done));
        async move {
            let _done = done;
            for batch in 0..BATCHES {
                // Hours and endpoints change, so that folds insert and update.
                let (hour, route) = (batch % 24, format!("/{}", batch % 7));
                let mut both = records(2, &format!("2026-11-20T{hour:02}:30:00Z"), &route, 200, Some(5.0));
                both.extend(records(2, &format!("2026-11-19T{hour:02}:30:00Z"), &route, 200, Some(5.0)));
                sent.fetch_add(2, Ordering::SeqCst);
                app.accept(&both).await;
                acknowledged.fetch_add(2, Ordering::SeqCst);
            }
        }
    });
    let fold = tokio::spawn({
        let (app, done) = (Arc::clone(&app), Arc::clone(&done));
        async move {
            let mut folds = 0;
            while !done.load(Ordering::SeqCst) {
                // Skipped where the refresh is at it.
                app.jobs.fold(&CancellationToken::new()).await.expect("fold");
                folds += 1;
            }
            folds
        }
    });
    let refresh = tokio::spawn({
        let (app, done) = (Arc::clone(&app), Arc::clone(&done));
        async move {
            let mut refreshes = 0;
            while !done.load(Ordering::SeqCst) {
                app.jobs.refresh(false).await.expect("refresh");
                refreshes += 1;
            }
            refreshes
        }
    });

    let mut last = 0;
    let mut asked = 0;
    while !done.load(Ordering::SeqCst) {
        let least = acknowledged.load(Ordering::SeqCst);
        let answer = app.get(&format!("/api/v1/endpoints/top?{WINDOW}")).await;
        let most = sent.load(Ordering::SeqCst);
        let total = answer["total"]["requests"].as_i64().unwrap();
        assert!(total >= last, "{total} after {last}");
        assert!((least..=most).contains(&total), "{total}, acknowledged {least}, sent {most}");
        // A batch is half in each window and stored as one, so in one snapshot both always read the same.
        let previous: i64 = answer["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["previous"]["requests"].as_i64().expect("seen in both windows"))
            .sum();
        assert_eq!(previous, total, "two windows of one answer are of one snapshot");
        last = total;
        asked += 1;
    }
    ingest.await.unwrap();
    let (folds, refreshes) = (fold.await.unwrap(), refresh.await.unwrap());
    assert!(asked > 10 && folds > 5 && refreshes > 5, "{asked} questions, {folds} folds, {refreshes} refreshes");
    for stage in ["at the end", "folded", "refreshed"] {
        let answer = app.get(&format!("/api/v1/endpoints/top?{WINDOW}")).await;
        assert_eq!(answer["total"]["requests"], 2 * BATCHES, "{stage}");
        match stage {
            "at the end" => app.fold().await,
            _ => app.refresh().await,
        }
    }
}
