//! What becomes of records when something is full, is cut, or goes away.
//!
//! A lock that the test holds on `requests` makes a flush wait at a known place for as long as the test needs, up to the
//! 5.5 s that Postgres gives a statement of a flush.

use std::sync::Arc;
use std::time::{Duration, Instant};

use endpoint_stats::ingest::IngestConfig;
use futures_util::future::join_all;
use reqwest::Response;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{counted, lines};
use crate::harness::{Database, Held, Setup, TestApp, record, until};

/// Connections of the services on this database.
const SERVICE: &str = "datname = current_database() AND application_name = 'endpoint-stats'";

/// Ends every connection of the services; returns how many there were.
async fn cut_off(database: &Database) -> i64 {
    database.number(&format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {SERVICE}")).await
}

fn batch(records: usize) -> String {
    lines(&vec![record("2026-11-21T10:00:00Z", "/items", 1.0); records])
}

/// A service that has stored a record, so that it knows the endpoint and the day, and the next flush goes straight to COPY.
async fn warm(setup: Setup) -> TestApp {
    let app = TestApp::with(setup).await;
    app.accept(&[record("2026-11-21T10:00:00Z", "/items", 1.0)]).await;
    app
}

async fn problem(response: Response, status: u16, code: &str) {
    assert_eq!(response.status(), status);
    let seconds: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    let problem: Value = response.json().await.unwrap();
    assert_eq!((&problem["code"], &problem["status"]), (&code.into(), &status.into()), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_sends_clients_away_and_stores_what_it_holds() {
    let ingest = IngestConfig { queue_records: 10, ..Setup::default().ingest };
    let app = warm(Setup { ingest, ..Setup::default() }).await;
    let held = Held::on(&app.database, "requests").await;

    let queued = [app.post("application/x-ndjson", batch(4)), app.post("application/x-ndjson", batch(4))];
    let queued = queued.map(|request| tokio::spawn(request.send()));
    held.reached().await;
    // Two places are left once both are in: too few for three records, and how soon they are in is the only thing unknown.
    until("the queue has no room for three", async || app.post_ndjson(batch(3)).await.status() == 429).await;
    problem(app.post_ndjson(batch(3)).await, 429, "queue-full").await;
    let last = tokio::spawn(app.post("application/x-ndjson", batch(2)).send());
    // Now there is none at all, so that not even the body is read.
    until("the queue is full", async || app.post_ndjson("no JSON, which nobody reads").await.status() == 429).await;

    held.release().await;
    for queued in queued.into_iter().chain([last]) {
        assert_eq!(queued.await.unwrap().unwrap().status(), 200, "what was queued is stored");
    }
    let (before, _) = counted(&app).await;
    assert_eq!(app.post_ndjson(batch(3)).await.status(), 200, "and there is room again at once");
    assert_eq!(counted(&app).await.0, before + 3);
    // More than the queue holds in all goes through, alone.
    assert_eq!(app.post_ndjson(batch(25)).await.status(), 200);
    assert_eq!(counted(&app).await, (before + 28, before + 28));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_cut_while_idle_is_not_noticed() {
    let app = warm(Setup::default()).await;
    for sent in 2..5 {
        assert!(cut_off(&app.database).await > 0);
        app.accept(&[record("2026-11-21T10:00:00Z", "/items", 1.0)]).await;
        assert_eq!(counted(&app).await, (sent, sent));
        assert!(cut_off(&app.database).await > 0);
        assert_eq!(app.get("/api/v1/overview").await["total"]["requests"], sent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_in_the_middle_of_a_flush_costs_the_client_nothing() {
    let app = warm(Setup::default()).await;
    let held = Held::on(&app.database, "requests").await;
    let sent = tokio::spawn(app.post("application/x-ndjson", batch(5)).send());
    held.reached().await;
    // Only that one: the second try takes another connection, perhaps before this statement has ended them all.
    let waiting = format!("{SERVICE} AND wait_event_type = 'Lock'");
    let cut = format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {waiting}");
    assert_eq!(app.database.number(&cut).await, 1);
    held.release().await;
    assert_eq!(sent.await.unwrap().unwrap().status(), 200, "it was tried once more");
    assert_eq!(counted(&app).await, (6, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_stays_away_is_503_and_the_batch_counts_once_when_it_is_back() {
    let app = warm(Setup::default()).await;
    let send = || app.post("application/x-ndjson", batch(5)).header("Idempotency-Key", "batch").send();
    let shut = app.database.shut().await;
    for _ in 0..3 {
        problem(send().await.unwrap(), 503, "database-unavailable").await;
        let question = app.request(reqwest::Method::GET, "/api/v1/overview").header("Cache-Control", "no-cache");
        problem(question.send().await.unwrap(), 503, "database-unavailable").await;
    }
    shut.open().await;
    let response = send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().get("idempotency-replayed")), (200, None));
    assert_eq!(send().await.unwrap().headers()["idempotency-replayed"], "true");
    assert_eq!(counted(&app).await, (6, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_with_keys_count_once_however_often_connections_are_cut() {
    let app = warm(Setup::default()).await;
    let done = std::sync::atomic::AtomicBool::new(false);
    let clients = async {
        let mut sent = 0;
        // As many rounds as it takes until the cuts have hurt, so that it is known that they did.
        let mut hurt = 0;
        let began = Instant::now();
        while hurt < 5 && began.elapsed() < Duration::from_secs(10) {
            let keys = (sent..sent + 8).map(|key| deliver_until_stored(&app, key));
            hurt += join_all(keys).await.into_iter().sum::<u32>();
            sent += 8;
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(hurt > 0, "no cut has hurt anybody in {sent} batches");
        sent
    };
    let cutting = async {
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            cut_off(&app.database).await;
        }
    };
    let (sent, ()) = tokio::join!(clients, cutting);
    assert_eq!(counted(&app).await, (1 + 3 * sent, 1 + 3 * sent));
}

/// Sends a batch of three until it is stored; returns how often it was not.
async fn deliver_until_stored(app: &TestApp, key: i64) -> u32 {
    let mut refused = 0;
    loop {
        let request = app.post("application/x-ndjson", batch(3)).header("Idempotency-Key", format!("batch-{key}"));
        let response = request.send().await.unwrap();
        match response.status().as_u16() {
            200 => return refused,
            503 => assert!(response.headers().contains_key("retry-after")),
            other => panic!("{other}: {}", response.text().await.unwrap()),
        }
        refused += 1;
        assert!(refused < 1_000, "batch {key} is never stored");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_was_dropped_behind_the_services_back_is_made_again() {
    let app = warm(Setup::default()).await;
    app.database.execute("DROP TABLE requests_20261121").await;
    let body = lines(&[record("2026-11-21T10:00:00Z", "/items", 1.0), record("2026-11-20T10:00:00Z", "/items", 1.0)]);
    assert_eq!(app.post_ndjson(body).await.status(), 200);
    assert_eq!(counted(&app).await, (3, 2), "the counts of the dropped rows stay");
    app.database.execute("DROP TABLE requests_20261121, requests_20261120").await;
    app.accept(&[record("2026-11-20T10:00:00Z", "/items", 1.0)]).await;
    assert_eq!(counted(&app).await, (4, 1));
}

/// A request of records as its bytes.
fn bytes(key: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /api/v1/requests HTTP/1.1\r\nhost: test\r\ncontent-type: application/x-ndjson\r\nidempotency-key: {key}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_batch_of_a_client_that_goes_away_is_stored_whole() {
    let app = warm(Setup::default()).await;
    let held = Held::on(&app.database, "requests").await;
    let body = batch(5);
    let mut client = TcpStream::connect(app.address).await.unwrap();
    client.write_all(&bytes("batch", &body)).await.unwrap();
    held.reached().await;
    drop(client);
    held.release().await;
    // The client comes back and asks what became of it: it was stored, once.
    let again = app.post("application/x-ndjson", body).header("Idempotency-Key", "batch").send().await.unwrap();
    assert_eq!((again.status().as_u16(), again.headers()["idempotency-replayed"].to_str().unwrap()), (200, "true"));
    assert_eq!(counted(&app).await, (6, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_ends_too_early_is_not_stored() {
    let app = warm(Setup::default()).await;
    let whole = bytes("batch", &batch(5));
    // Cut behind the third line: what did arrive are whole records, which must not be taken for the whole body.
    let third = whole.len() - 2 * batch(1).len();
    for end in [third, third - 1, whole.len() - 1, whole.len() - batch(5).len(), 20] {
        let mut client = TcpStream::connect(app.address).await.unwrap();
        client.write_all(&whole[..end]).await.unwrap();
        drop(client);
    }
    let again = app.post("application/x-ndjson", batch(5)).header("Idempotency-Key", "batch").send().await.unwrap();
    assert_eq!((again.status().as_u16(), again.headers().get("idempotency-replayed")), (200, None));
    let database = Arc::clone(&app.database);
    app.stop().await; // flushes what a cut body might have left in the queue
    assert_eq!(database.number("SELECT count(*) FROM requests").await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_go_away_take_no_connection_with_them() {
    let app = warm(Setup::default()).await;
    for n in 0..100 {
        let mut client = TcpStream::connect(app.address).await.unwrap();
        client.write_all(&bytes(&format!("batch-{n}"), &batch(2))).await.unwrap();
    }
    // Far more than the pool has, so a connection lost for each client would be missed.
    for n in 0..100 {
        let again = app.post("application/x-ndjson", batch(2)).header("Idempotency-Key", format!("batch-{n}"));
        assert_eq!(again.send().await.unwrap().status(), 200);
    }
    assert_eq!(counted(&app).await, (201, 201), "each whole and once, whether the first delivery was read or not");
    let connections = app.database.number(&format!("SELECT count(*) FROM pg_stat_activity WHERE {SERVICE}")).await;
    assert!(connections <= 6, "{connections}");
}
