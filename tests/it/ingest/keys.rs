//! Batches that count once.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::Value;

use super::{counted, lines};
use crate::harness::compressed::{gzip, zstd};
use crate::harness::{Held, NOW, Setup, TestApp, record};

fn batch(route: &str) -> String {
    lines(&[record("2026-11-21T10:00:00Z", route, 1.0), record("2026-11-21T10:01:00Z", route, 2.0)])
}

/// Status, whether it was said to be a replay, and the text of an answer.
async fn deliver(
    app: &TestApp,
    key: &str,
    body: impl Into<reqwest::Body>,
    encoding: Option<&str>,
) -> (u16, bool, String) {
    let request = app.post("application/x-ndjson", body).header("Idempotency-Key", key);
    let request = if let Some(encoding) = encoding { request.header("Content-Encoding", encoding) } else { request };
    let response = request.send().await.unwrap();
    let replayed = response.headers().get("idempotency-replayed").map(|value| value.to_str().unwrap().to_owned());
    assert!(replayed.as_deref().is_none_or(|said| said == "true"), "{replayed:?}");
    (response.status().as_u16(), replayed.is_some(), response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_sent_again_has_the_same_answer_and_counts_once() {
    let app = TestApp::start().await;
    // With an error in it, so that the answer is one that could not be made up from the number of records.
    let body = format!("{}{{broken\n", batch("/keyed"));
    let (status, replayed, first) = deliver(&app, "batch-1", body.clone(), None).await;
    assert_eq!((status, replayed), (200, false), "{first}");
    for (again, encoding) in
        [(body.clone().into_bytes(), None), (gzip(&body), Some("gzip")), (zstd(&body), Some("zstd"))]
    {
        assert_eq!(deliver(&app, "batch-1", again, encoding).await, (200, true, first.clone()), "{encoding:?}");
    }
    assert_eq!(counted(&app).await, (2, 2));
    // Also after the deltas have been folded, and by a replica that has never seen the key.
    app.fold().await;
    let other = TestApp::on(Arc::clone(&app.database), Setup::default()).await;
    assert_eq!(deliver(&other, "batch-1", body, None).await, (200, true, first));
    assert_eq!(counted(&app).await, (2, 2));
    assert_eq!(app.get("/api/v1/overview").await["total"]["requests"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_good_for_one_body() {
    let app = TestApp::start().await;
    assert_eq!(deliver(&app, "batch-1", batch("/one"), None).await.0, 200);
    let (status, replayed, text) = deliver(&app, "batch-1", batch("/two"), None).await;
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, replayed, &problem["code"]), (422, false, &"idempotency-key-reused".into()), "{text}");
    assert_eq!(counted(&app).await, (2, 2));
    assert_eq!(deliver(&app, "batch-2", batch("/two"), None).await.0, 200, "another key takes it");
    assert_eq!(counted(&app).await, (4, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_not_used_up_by_a_batch_that_was_not_stored() {
    let app = TestApp::start().await;
    for (body, status) in [("{\"status\":1}", 422), ("not json", 400), ("", 400)] {
        let (told, replayed, text) = deliver(&app, "batch-1", body, None).await;
        assert_eq!((told, replayed), (status, false), "{text}");
    }
    assert_eq!(deliver(&app, "batch-1", batch("/corrected"), None).await.0, 200);
    assert_eq!(counted(&app).await, (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_deliveries_at_once_through_two_services_count_once() {
    let one = TestApp::start().await;
    let two = TestApp::on(Arc::clone(&one.database), Setup::default()).await;
    let body = batch("/keyed");
    let deliveries = (0..50).map(|n| deliver(if n % 2 == 0 { &one } else { &two }, "batch-1", body.clone(), None));
    let answers = join_all(deliveries).await;
    let stored = answers.iter().filter(|(_, replayed, _)| !replayed).count();
    assert!(answers.iter().all(|(status, _, text)| *status == 200 && *text == answers[0].2), "{answers:?}");
    assert_eq!(stored, 1, "one delivery stores it, the others are told what that one was");
    assert_eq!(counted(&one).await, (2, 2));
    assert_eq!(one.database.number("SELECT count(*) FROM ingest_batches").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_bodies_under_one_key_at_once_one_is_stored() {
    let one = TestApp::start().await;
    let two = TestApp::on(Arc::clone(&one.database), Setup::default()).await;
    for round in 0..10 {
        let key = format!("batch-{round}");
        let deliveries = (0..8).map(|n| {
            let app = if n < 4 { &one } else { &two };
            deliver(app, &key, batch(if n % 2 == 0 { "/even" } else { "/odd" }), None)
        });
        let answers = join_all(deliveries).await;
        let with = |status: u16| answers.iter().filter(|answer| answer.0 == status).count();
        assert_eq!((with(200), with(422)), (4, 4), "{answers:?}");
        assert_eq!(counted(&one).await, (2 * (round + 1), 2 * (round + 1)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_without_a_key_and_under_many_keys_are_stored_beside_each_other() {
    let app = TestApp::start().await;
    let keyed = (0..40).map(|n| {
        let app = &app;
        async move { deliver(app, &format!("key-{}", n % 10), batch("/shared"), None).await.0 }
    });
    let plain = (0..20).map(|_| async { app.post_ndjson(batch("/shared")).await.status().as_u16() });
    let (keyed, plain) = tokio::join!(join_all(keyed), join_all(plain));
    assert!(keyed.iter().chain(&plain).all(|status| *status == 200), "{keyed:?} {plain:?}");
    assert_eq!(counted(&app).await, (2 * (10 + 20), 2 * (10 + 20)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_1_to_255_visible_ascii_characters_and_is_given_once() {
    let app = TestApp::start().await;
    let too_long = "k".repeat(256);
    for keys in
        [&[""][..], &["two words"], &["tab\there"], &["schlüssel"], &[&too_long], &["one", "two"], &["one", "one"]]
    {
        let request = keys.iter().fold(app.post("application/x-ndjson", batch("/bad")), |request, key| {
            let value = reqwest::header::HeaderValue::from_bytes(key.as_bytes()).unwrap();
            request.header("Idempotency-Key", value)
        });
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 400, "{keys:?}");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["code"], "invalid-idempotency-key", "{keys:?}");
    }
    assert_eq!(counted(&app).await, (0, 0));
    for key in ["k", &"k".repeat(255), "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"] {
        assert_eq!(deliver(&app, key, batch("/good"), None).await.0, 200, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_held_elsewhere_costs_its_own_client_409_and_nobody_else() {
    let app = TestApp::start().await;
    app.accept(&[record(NOW, "/", 1.0)]).await;
    // Another replica that froze in the middle of storing these batches.
    let frozen = app.database.connect().await;
    frozen.batch_execute("BEGIN").await.unwrap();
    for key in ["held-1", "held-2", "held-3", "held-4"] {
        let row = format!("INSERT INTO ingest_batches VALUES ('{key}', '', '')");
        frozen.batch_execute(&row).await.unwrap();
    }
    let send = |key: Option<&str>| {
        let mut request = app.post("application/x-ndjson", record(NOW, "/", 1.0).to_string());
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        tokio::spawn(request.send())
    };
    // Three keep every flush busy; the others gather meanwhile and share the next one.
    let held = ["held-1", "held-2", "held-3", "held-4"].map(|key| send(Some(key)));
    let free = [send(None), send(Some("free")), send(None)];
    for answer in free {
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    }
    for answer in held {
        let answer = answer.await.unwrap().unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers().contains_key("Retry-After")), (409, true));
    }
    frozen.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(send(Some("held-1")).await.unwrap().unwrap().status(), 200, "and once it is free, it goes in");
    assert_eq!(app.get("/api/v1/overview").await["total"]["requests"], 5);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_nothing_to_do_with_a_key_that_is_held_does_not_wait_for_it() {
    let app = Arc::new(TestApp::start().await);
    app.accept(&[record("2026-11-21T10:00:00Z", "/before", 1.0)]).await;
    let held = Held::idempotency_key(&app.database, "batch-1").await;
    let keyed = tokio::spawn({
        let app = Arc::clone(&app);
        async move { deliver(&app, "batch-1", batch("/keyed"), None).await.0 }
    });
    held.reached().await;
    for _ in 0..3 {
        app.accept(&[record("2026-11-21T10:00:00Z", "/other", 1.0)]).await;
    }
    assert_eq!(held.waiting().await, 1, "the flush with the key still waits, the others got past it");
    held.release().await;
    assert_eq!(keyed.await.unwrap(), 200);
    assert_eq!(counted(&app).await, (6, 6));
}
