//! Who is let in, and who learns what from being refused.

mod commands;
mod timing;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use endpoint_stats::auth::{KeyRing, Refusal};
use endpoint_stats::domain::{ApiKey, Scope};
use endpoint_stats::store::{Store, StoreConfig};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Database, Setup, TestApp, record};

const QUESTION: &str = "/api/v1/overview?window=1h";
const RECORDS: &str = "/api/v1/requests";

/// A question about a closed day: its answer stays in the process.
const SETTLED: &str = "/api/v1/overview?from=2026-11-18&to=2026-11-19";

const NOT_GIVEN: &str = "Bearer realm=\"endpoint-stats\"";
const NOT_VALID: &str = "Bearer realm=\"endpoint-stats\", error=\"invalid_token\"";

/// A key that the database knows.
async fn made(store: &Store, scope: Scope) -> ApiKey {
    let key = ApiKey::generate().unwrap();
    let created = store.create_api_key(key.prefix().as_str(), key.prefix(), &key.hash(), scope).await.unwrap();
    assert!(created);
    key
}

fn store_on(database: &Database) -> Store {
    Store::new(&StoreConfig { url: database.url().to_owned(), pool_min: 0, pool_max: 2 }).unwrap()
}

async fn guarded() -> TestApp {
    TestApp::with(Setup { auth: true, ..Setup::default() }).await
}

fn bearer(key: &ApiKey) -> String {
    format!("Bearer {}", key.reveal())
}

/// A question or a POST of one record, by its path.
fn to(app: &TestApp, path: &str) -> RequestBuilder {
    if path == RECORDS {
        app.post("application/json", record("2026-11-21T10:00:00Z", "/items", 1.0).to_string())
    } else {
        app.request(Method::GET, path)
    }
}

async fn status(app: &TestApp, path: &str, key: &ApiKey) -> u16 {
    to(app, path).header("Authorization", bearer(key)).send().await.unwrap().status().as_u16()
}

/// Waits until something is so; fails when it is not within what a revocation may take.
async fn within_five_seconds(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !so().await {
        assert!(began.elapsed() < Duration::from_secs(5), "{what}: not within 5 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What is wrong, path, Authorization headers; status, code and WWW-Authenticate of the answer.
type Case<'c> = (&'c str, &'c str, Vec<String>, u16, &'static str, Option<&'static str>);

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_way_to_ask_is_refused_by_name() {
    let database = Database::create().await;
    let store = store_on(&database);
    let (read, ingest) = (made(&store, Scope::Read).await, made(&store, Scope::Ingest).await);
    let (revoked, never) = (made(&store, Scope::Read).await, ApiKey::generate().unwrap());
    store.revoke_api_key(revoked.prefix().as_str()).await.unwrap().unwrap();
    let app = TestApp::on(database, Setup { auth: true, ..Setup::default() }).await;

    let (good, text) = (bearer(&read), read.reveal());
    let other = if text.ends_with('A') { "B" } else { "A" };
    let in_query = |parameter: &str| format!("{QUESTION}&{parameter}={text}");
    let (by_key, by_token, by_service) = (in_query("key"), in_query("access_token"), in_query("service"));
    let cases: Vec<Case<'_>> = vec![
        ("no key", QUESTION, vec![], 401, "unauthorized", Some(NOT_GIVEN)),
        ("no key for records", RECORDS, vec![], 401, "unauthorized", Some(NOT_GIVEN)),
        ("another scheme", QUESTION, vec!["Basic dTpw".into()], 401, "unauthorized", Some(NOT_GIVEN)),
        ("no scheme", QUESTION, vec![text.into()], 401, "unauthorized", Some(NOT_GIVEN)),
        ("a scheme without a key", QUESTION, vec!["Bearer".into()], 401, "unauthorized", Some(NOT_GIVEN)),
        ("an empty header", QUESTION, vec![String::new()], 401, "unauthorized", Some(NOT_GIVEN)),
        ("nonsense", QUESTION, vec!["Bearer nonsense".into()], 401, "unauthorized", Some(NOT_VALID)),
        ("not ASCII", QUESTION, vec!["Bearer schlüssel".into()], 401, "unauthorized", Some(NOT_VALID)),
        ("two words", QUESTION, vec![format!("{good} x")], 401, "unauthorized", Some(NOT_VALID)),
        ("too long", QUESTION, vec![format!("{good}x")], 401, "unauthorized", Some(NOT_VALID)),
        ("cut short", QUESTION, vec![good[..good.len() - 1].into()], 401, "unauthorized", Some(NOT_VALID)),
        ("prefix alone", QUESTION, vec![good[..19].into()], 401, "unauthorized", Some(NOT_VALID)),
        ("capitals", QUESTION, vec![format!("Bearer {}", text.to_uppercase())], 401, "unauthorized", Some(NOT_VALID)),
        ("wrong", QUESTION, vec![good[..good.len() - 1].to_owned() + other], 401, "unauthorized", Some(NOT_VALID)),
        ("wrong for records", RECORDS, vec![bearer(&never)], 401, "unauthorized", Some(NOT_VALID)),
        ("never made", QUESTION, vec![bearer(&never)], 401, "unauthorized", Some(NOT_VALID)),
        ("revoked", QUESTION, vec![bearer(&revoked)], 401, "unauthorized", Some(NOT_VALID)),
        ("read key on write", RECORDS, vec![good.clone()], 403, "forbidden", None),
        ("ingest key on read", QUESTION, vec![bearer(&ingest)], 403, "forbidden", None),
        ("two headers", QUESTION, vec![good.clone(), good.clone()], 400, "two-authorizations", None),
        ("two headers, one empty", QUESTION, vec![good.clone(), String::new()], 400, "two-authorizations", None),
        ("key in the query", &by_key, vec![], 400, "key-in-url", None),
        ("key in the query and in the header", &by_token, vec![good.clone()], 400, "key-in-url", None),
        ("key as a value that a question has", &by_service, vec![good.clone()], 400, "key-in-url", None),
    ];
    for (what, path, headers, status, code, challenge) in &cases {
        let request = headers.iter().fold(to(&app, path), |request, value| request.header("Authorization", value));
        let response = request.send().await.unwrap();
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(
            (response.status().as_u16(), header("www-authenticate").as_deref()),
            (*status, *challenge),
            "{what}"
        );
        assert_eq!(header("cache-control").as_deref(), Some("no-store"), "{what}");
        assert_eq!(header("content-type").as_deref(), Some("application/problem+json"), "{what}");
        let body = response.text().await.unwrap();
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&problem["code"], &problem["status"]),
            (&Value::from(*code), &Value::from(*status)),
            "{what}: {body}"
        );
        assert!(problem["suggestion"].as_str().is_some_and(|text| !text.is_empty()), "{what}: {body}");
        assert!(!body.contains(&text[3..]), "{what}: an answer repeats the key: {body}");
    }
    assert_eq!(app.database.number("SELECT count(*) FROM requests").await, 0, "nothing of it was stored");

    for good in [good.clone(), good.replace("Bearer", "bearer"), good.replace(' ', "  ")] {
        let response = to(&app, QUESTION).header("Authorization", &good).send().await.unwrap();
        assert_eq!(response.status(), 200, "the scheme may be written in any case, and one space more does no harm");
    }
    assert_eq!(status(&app, RECORDS, &ingest).await, 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_and_one_that_never_was_get_the_same_answer_after_the_same_wait() {
    let app = guarded().await;
    let revoked = made(&app.store, Scope::Admin).await;
    assert_eq!(status(&app, QUESTION, &revoked).await, 200);
    app.store.revoke_api_key(revoked.prefix().as_str()).await.unwrap();
    within_five_seconds("the key is refused", async || status(&app, QUESTION, &revoked).await == 401).await;

    let never = ApiKey::generate().unwrap();
    let told = async |key: &ApiKey| {
        let response = to(&app, QUESTION).header("Authorization", bearer(key)).send().await.unwrap();
        let mut headers = response.headers().clone();
        for of_each_its_own in ["date", "x-request-id", "server-timing"] {
            headers.remove(of_each_its_own);
        }
        (response.status(), headers, response.text().await.unwrap())
    };
    // Asked together they wait for the same load, so neither can be told from the other by its time.
    let ((one, one_took), (other, other_took)) = tokio::join!(
        async {
            let began = Instant::now();
            (told(&revoked).await, began.elapsed())
        },
        async {
            let began = Instant::now();
            (told(&never).await, began.elapsed())
        },
    );
    assert_eq!(one, other);
    assert!(one_took.abs_diff(other_took) < Duration::from_millis(400), "{one_took:?} and {other_took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_scope_opens_its_own_routes_and_no_others() {
    let app = guarded().await;
    let keys = [
        made(&app.store, Scope::Ingest).await,
        made(&app.store, Scope::Read).await,
        made(&app.store, Scope::Admin).await,
    ];
    let (open, read, write) = (["in"; 4], ["401", "403", "in", "in"], ["401", "in", "403", "in"]);
    let admin = ["401", "403", "403", "in"];
    // route, what it answers without a key and with one of the scopes ingest, read, admin
    let matrix = [
        ("/api/v1/requests", write),
        ("/api/v1/endpoints/top", read),
        ("/api/v1/endpoints/{id}", read),
        ("/api/v1/endpoints/{id}/series", read),
        ("/api/v1/endpoints/{id}/requests", read),
        ("/api/v1/overview", read),
        ("/api/v1/daily", read),
        ("/api/v1/jobs", admin),
        ("/api/v1/jobs/{name}", admin),
        ("/api/v1/jobs/{name}/run", admin),
        ("/", open),
        ("/docs", open),
        ("/docs/{file}", open),
        ("/favicon.ico", open),
        ("/openapi.json", open),
        ("/livez", open),
        ("/readyz", open),
    ];
    for (route, expected) in matrix {
        let path = route.replace("{id}", "1").replace("{name}", "fold");
        for (key, expected) in [None].into_iter().chain(keys.iter().map(Some)).zip(expected) {
            for method in [Method::GET, Method::HEAD, Method::POST] {
                let mut request = to(&app, &path);
                if path != RECORDS {
                    request = app.request(method.clone(), &path);
                }
                if let Some(key) = key {
                    request = request.header("Authorization", bearer(key));
                }
                let status = request.send().await.unwrap().status().as_u16();
                let found = if [401, 403].contains(&status) { status.to_string() } else { "in".to_owned() };
                assert_eq!(found, expected, "{method} {route} with {:?}: {status}", key.map(ApiKey::prefix));
            }
        }
    }

    let source = include_str!("../../src/http/mod.rs");
    let routes = source.lines().filter_map(|line| line.trim().strip_prefix(".service(")?.split('"').nth(1));
    let tested: BTreeSet<&str> = matrix.into_iter().map(|(route, _)| route).collect();
    assert_eq!(routes.collect::<BTreeSet<_>>(), tested, "every route of the table is tested here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_works_in_the_very_next_request_on_every_replica() {
    let app = guarded().await;
    let other = TestApp::on(Arc::clone(&app.database), Setup { auth: true, ..Setup::default() }).await;
    for _ in 0..3 {
        let key = made(&app.store, Scope::Read).await;
        assert_eq!(status(&app, QUESTION, &key).await, 200);
        assert_eq!(status(&other, QUESTION, &key).await, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused_by_every_replica_within_five_seconds() {
    let app = guarded().await;
    let other = TestApp::on(Arc::clone(&app.database), Setup { auth: true, ..Setup::default() }).await;
    let (key, kept) = (made(&app.store, Scope::Read).await, made(&app.store, Scope::Read).await);
    assert_eq!((status(&app, QUESTION, &key).await, status(&other, QUESTION, &key).await), (200, 200));
    app.store.revoke_api_key(key.prefix().as_str()).await.unwrap();
    within_five_seconds("every replica refuses it", async || {
        status(&app, QUESTION, &key).await == 401 && status(&other, QUESTION, &key).await == 401
    })
    .await;
    assert_eq!((status(&app, QUESTION, &kept).await, status(&other, QUESTION, &kept).await), (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_keys_cost_postgres_two_statements_a_second_at_most() {
    let app = guarded().await;
    let client = app.database.connect().await;
    let scans =
        "SELECT COALESCE(seq_scan, 0) + COALESCE(idx_scan, 0) FROM pg_stat_user_tables WHERE relname = 'api_keys'";
    let scans = async || client.query_one(scans, &[]).await.unwrap().get::<_, i64>(0);
    let (began, before) = (Instant::now(), scans().await);
    let strangers = (0..8).map(|_| async {
        let mut refused = 0;
        while began.elapsed() < Duration::from_secs(3) {
            assert_eq!(status(&app, QUESTION, &ApiKey::generate().unwrap()).await, 401);
            refused += 1;
        }
        refused
    });
    let refused: u32 = futures_util::future::join_all(strangers).await.into_iter().sum();
    let (seconds, loads) = (began.elapsed().as_secs_f64(), scans().await - before);
    assert!(loads > 0, "they are counted");
    assert!(loads as f64 <= seconds * 2.0 + 2.0, "{loads} loads for {refused} strangers in {seconds} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgres_is_away_the_keys_known_last_go_on_holding() {
    let app = guarded().await;
    let (read, ingest) = (made(&app.store, Scope::Read).await, made(&app.store, Scope::Ingest).await);
    assert_eq!((status(&app, SETTLED, &read).await, status(&app, RECORDS, &ingest).await), (200, 200));
    let unknown = ApiKey::generate().unwrap();

    let name = app.database.url().rsplit('/').next().unwrap().to_owned();
    let admin = app.database.connect().await;
    let allow = |allowed: bool| format!("UPDATE pg_database SET datallowconn = {allowed} WHERE datname = '{name}'");
    admin.batch_execute(&allow(false)).await.unwrap();
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'endpoint-stats'";
    admin.query(cut, &[]).await.unwrap();

    // Twice, so that a load has failed in between for certain. Whether such a key holds is not known now: not 401.
    for _ in 0..2 {
        let response = to(&app, SETTLED).header("Authorization", bearer(&unknown)).send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers().contains_key("retry-after")), (503, true));
        assert_eq!(status(&app, SETTLED, &read).await, 200, "a known answer for a known key");
        assert_eq!(status(&app, RECORDS, &ingest).await, 503, "let in, and told that nothing can be stored");
        assert_eq!(status(&app, RECORDS, &read).await, 403);
    }
    admin.batch_execute(&allow(true)).await.unwrap();
    within_five_seconds("it knows again who is a stranger", async || status(&app, SETTLED, &unknown).await == 401)
        .await;
    let new = made(&app.store, Scope::Read).await;
    assert_eq!(status(&app, SETTLED, &new).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_that_never_had_keys_does_not_say_who_is_wrong() {
    // Port 9 is nobody's.
    let url = "postgres://nobody@127.0.0.1:9/none".to_owned();
    let store = Arc::new(Store::new(&StoreConfig { url, pool_min: 0, pool_max: 1 }).unwrap());
    let ring = Arc::new(KeyRing::new(store));
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn({
        let (ring, stop) = (Arc::clone(&ring), stop.clone());
        async move { ring.run(stop).await }
    });
    let key = ApiKey::generate().unwrap();
    assert_eq!(ring.check(key.reveal()).await, Err(Refusal::Unavailable));
    assert!(!ring.is_empty(), "that is not known either");
    stop.cancel();
    running.await.unwrap();
    assert_eq!(
        ring.check(key.reveal()).await,
        Err(Refusal::Unavailable),
        "nor does a request wait for a loop that ended"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_for_keys_are_private_and_those_for_anybody_are_public() {
    let app = guarded().await;
    let key = made(&app.store, Scope::Read).await;
    let open = TestApp::start().await;
    let header = |response: &Response, name: &str| response.headers()[name].to_str().unwrap().to_owned();
    let guarded = to(&app, SETTLED).header("Authorization", bearer(&key)).send().await.unwrap();
    assert!(header(&guarded, "cache-control").starts_with("private, max-age="));
    assert_eq!(header(&guarded, "vary"), "Accept-Encoding, Authorization, Origin");
    let etag = header(&guarded, "etag");
    let again = to(&app, SETTLED).header("Authorization", bearer(&key)).header("If-None-Match", etag);
    let again = again.send().await.unwrap();
    assert_eq!(again.status(), 304);
    assert!(header(&again, "cache-control").starts_with("private, max-age="));
    let public = to(&open, SETTLED).send().await.unwrap();
    assert!(header(&public, "cache-control").starts_with("public, max-age="));
    assert_eq!(header(&public, "vary"), "Accept-Encoding, Origin");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_of_a_refused_request_is_not_waited_for() {
    let app = guarded().await;
    for length in ["content-length: 1000000", "transfer-encoding: chunked"] {
        let mut client = TcpStream::connect(app.address).await.unwrap();
        let head =
            format!("POST {RECORDS} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n{length}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        let (mut reading, mut writing) = client.into_split();
        // A client that sends on and on, slowly: it must not keep its connection by that.
        let sending = tokio::spawn(async move {
            while writing.write_all(b"1\r\n \r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), reading.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "{length}: the connection stays open");
        assert!(answer.starts_with(b"HTTP/1.1 401 "), "{length}: {}", String::from_utf8_lossy(&answer));
        sending.abort();
    }
}
