//! The caches: what they may save, and what they must never change.
//!
//! | module | what it holds them to |
//! |---|---|
//! | (here) | hits and misses, one key for equal questions, replicas, garbage in Redis, late data |
//! | `forms` | compressed bodies, validators, and the headers of every answer |
//! | `outages` | Postgres away: the last known answer, marked; old answers while a new one is made |
//! | `shared` | Redis hung, gone, full, refusing, or a cluster: nobody sees it, nobody waits long |
//! | `stampede` | a thousand clients on one cold key make one statement |
//! | `sweep` | what nobody will ask for again is removed from Redis, and nothing else |
//!
//! Most questions here are about a closed day: its answer stays in the process and in Redis for longer than a test runs, so
//! that whether it was found there does not depend on how fast the machine is.

mod forms;
mod outages;
mod shared;
mod stampede;
mod sweep;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use endpoint_stats::store::schema_version;
use redis::AsyncCommands as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Setup, TestApp, record, servers, until};

/// A question about a closed day.
const SETTLED: &str = "/api/v1/endpoints/top?from=2026-11-20&to=2026-11-21&by=p95&limit=10";

/// What came back: `X-Cache`, the field `cache`, and the requests counted in all.
type Seen = (String, String, i64);

fn hit(requests: i64) -> Seen {
    ("hit".to_owned(), "hit".to_owned(), requests)
}

fn miss(requests: i64) -> Seen {
    ("miss".to_owned(), "miss".to_owned(), requests)
}

async fn ask_with(app: &TestApp, path: &str, cache_control: &str) -> Seen {
    let response = app.request(Method::GET, path).header("Cache-Control", cache_control).send().await.unwrap();
    let status = response.status();
    let header = response.headers().get("x-cache").map(|value| value.to_str().unwrap().to_owned());
    let text = response.text().await.unwrap();
    assert_eq!(status, StatusCode::OK, "{path}: {text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    let said = answer["cache"].as_str().unwrap().to_owned();
    (header.expect("X-Cache"), said, answer["total"]["requests"].as_i64().unwrap())
}

/// Asks as a browser does, content with what a cache holds.
async fn ask(app: &TestApp, path: &str) -> Seen {
    ask_with(app, path, "max-age=0").await
}

/// Replicas with a Redis and a database in common.
struct Replicas {
    redis_url: String,
}

impl Replicas {
    /// The first, with `requests` requests on the closed day.
    async fn first(requests: usize) -> (Self, TestApp) {
        let replicas = Self { redis_url: servers::redis_url() };
        let app = TestApp::with(replicas.setup()).await;
        app.accept(&yesterday(requests)).await;
        (replicas, app)
    }

    /// One more, with nothing in its own cache.
    async fn another(&self, first: &TestApp) -> TestApp {
        TestApp::on(Arc::clone(&first.database), self.setup()).await
    }

    fn setup(&self) -> Setup {
        Setup { redis_url: Some(self.redis_url.clone()), ..Setup::default() }
    }

    /// A new replica that finds in Redis what another has made, and the requests it found counted.
    ///
    /// Redis has 50 ms for a question. On a machine busy with other tests that may be too little, and then the answer is made
    /// anew, as it should be; so up to five replicas try. Each must be right, found or made.
    async fn finds(&self, first: &TestApp, path: &str, requests: i64) -> TestApp {
        for _ in 0..5 {
            let replica = self.another(first).await;
            let seen = ask(&replica, path).await;
            if seen == hit(requests) {
                return replica;
            }
            assert_eq!(seen, miss(requests), "{path}");
        }
        panic!("{path}: no replica finds the answer that another has made");
    }

    /// The one entry in Redis after `app` was asked, again where Redis had no time to take the answer. (Beside it lies the
    /// same as last known.)
    async fn only_key(&self, app: &TestApp, path: &str) -> String {
        let mut redis = self.redis().await;
        for _ in 0..5 {
            let mut keys: Vec<String> = redis.keys("*:g?").await.unwrap();
            assert!(keys.len() <= 1, "one question, one key: {keys:?}");
            if let Some(key) = keys.pop() {
                return key;
            }
            ask_with(app, path, "no-cache").await;
        }
        panic!("{path}: no answer arrives in Redis");
    }

    async fn redis(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.redis_url.as_str()).unwrap();
        client.get_multiplexed_async_connection().await.expect("Redis answers")
    }
}

fn yesterday(requests: usize) -> Vec<Value> {
    vec![record("2026-11-20T10:05:00Z", "/a", 5.0); requests]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_made_once_and_then_found_also_by_the_other_replica() {
    let (replicas, first) = Replicas::first(3).await;
    assert_eq!(ask(&first, SETTLED).await, miss(3));
    assert_eq!(ask(&first, SETTLED).await, hit(3));
    let second = replicas.finds(&first, SETTLED, 3).await;

    // Both speak of the same answer, so who has it from one is told by the other that it still holds.
    let tag = |app: &TestApp| app.request(Method::GET, SETTLED).send();
    let (one, other) = (tag(&first).await.unwrap(), tag(&second).await.unwrap());
    assert_eq!(one.headers()["etag"], other.headers()["etag"]);
    assert_eq!(one.bytes().await.unwrap(), other.bytes().await.unwrap());

    // Redis drops an answer by itself when its time is over.
    let mut redis = replicas.redis().await;
    let key = replicas.only_key(&first, SETTLED).await;
    let begin = format!("endpoint-stats:{}:s{}:", env!("CARGO_PKG_VERSION"), schema_version());
    assert!(key.starts_with(&begin), "{key}");
    let seconds: i64 = redis.ttl(&key).await.unwrap();
    assert!((38_780..=47_520).contains(&seconds), "12 h, give or take a tenth: {seconds}");
    let known: i64 = redis.ttl(key.replace(":g0", ":last")).await.unwrap();
    assert!((86_300..=86_400).contains(&known), "a day: {known}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_question_is_found_again_and_kept_apart() {
    let app = TestApp::start().await;
    app.accept(&yesterday(30)).await;
    let window = "from=2026-11-20&to=2026-11-21";
    let paths = [
        format!("/api/v1/overview?{window}"),
        format!("/api/v1/daily?{window}"),
        format!("/api/v1/daily?{window}&format=csv"),
        format!("/api/v1/endpoints/top?{window}"),
        format!("/api/v1/endpoints/top?{window}&format=csv"),
        format!("/api/v1/endpoints/top?{window}&compare=previous"),
        format!("/api/v1/endpoints/top?{window}&service=shop"),
        format!("/api/v1/endpoints/top?{window}&route=shop"),
        format!("/api/v1/endpoints/1?{window}"),
        format!("/api/v1/endpoints/1/series?{window}"),
        format!("/api/v1/endpoints/1/requests?{window}"),
    ];
    for path in &paths {
        let made = app.request(Method::GET, path).send().await.unwrap();
        let found = app.request(Method::GET, path).send().await.unwrap();
        let states = (&made.headers()["x-cache"], &found.headers()["x-cache"]);
        assert_eq!((states.0.to_str().unwrap(), states.1.to_str().unwrap()), ("miss", "hit"), "{path}");
        for name in ["content-type", "etag", "cache-control"] {
            assert_eq!(made.headers()[name], found.headers()[name], "{path}: {name}");
        }
        let (made, found) = (made.text().await.unwrap(), found.text().await.unwrap());
        assert_eq!(made.replace(r#""cache":"miss""#, r#""cache":"hit""#), found, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cache_answers_from_postgres_and_refills() {
    let (replicas, first) = Replicas::first(3).await;
    assert_eq!(ask(&first, SETTLED).await, miss(3));
    first.accept(&yesterday(4)).await;
    assert_eq!(ask(&first, SETTLED).await, hit(3), "as of a while ago, as promised");
    for directives in ["no-cache", "max-age=0, No-Cache"] {
        assert_eq!(ask_with(&first, SETTLED, directives).await, miss(7), "{directives}");
    }
    assert_eq!(ask(&first, SETTLED).await, hit(7));
    // Redis was refilled too: no replica finds the old answer.
    replicas.finds(&first, SETTLED, 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_questions_written_differently_share_an_entry() {
    let app = TestApp::start().await;
    app.accept(&yesterday(3)).await;
    let day = "from=2026-11-20&to=2026-11-21";
    let top = "/api/v1/endpoints/top";
    for group in [
        vec![
            format!("limit=10&by=p95&{day}"),
            format!("by=p95&{day}&limit=10"),
            format!("{day}&by=%7095"),
            format!("by=p95&{day}&route=&min_requests=0&format=json"),
            "by=p95&from=2026-11-20T01:00:00%2B01:00&to=1795219200000".to_owned(),
        ],
        vec![format!("{day}&method=get"), format!("method=GET&{day}")],
    ] {
        let mut states = Vec::new();
        for query in &group {
            states.push(ask(&app, &format!("{top}?{query}")).await.0);
        }
        let expected: Vec<&str> =
            group.iter().enumerate().map(|(at, _)| if at == 0 { "miss" } else { "hit" }).collect();
        assert_eq!(states, expected, "{group:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_redis_away_or_silent_answers_are_right_and_prompt() {
    // A port where nobody listens, since its listener is gone; and one where nobody ever answers.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for (what, address) in [("away", gone), ("silent", silent.local_addr().unwrap())] {
        let setup = Setup { redis_url: Some(format!("redis://{address}")), ..Setup::default() };
        let app = TestApp::with(setup).await;
        app.accept(&yesterday(3)).await;
        let began = Instant::now();
        assert_eq!(ask(&app, SETTLED).await, miss(3), "{what}");
        assert_eq!(ask(&app, SETTLED).await, hit(3), "{what}: the process remembers by itself");
        assert_eq!(ask_with(&app, SETTLED, "no-cache").await, miss(3), "{what}");
        // Four waits of 50 ms at most; the rest is room for a busy machine.
        assert!(began.elapsed() < Duration::from_secs(2), "{what}: {:?}", began.elapsed());
        let live = futures_util::future::join_all((0..50).map(|limit| {
            let path = format!("/api/v1/endpoints/top?window=30d&limit={}", limit + 1);
            let app = &app;
            async move { ask(app, &path).await }
        }));
        assert!(live.await.iter().all(|seen| *seen == miss(3)), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_redis_is_never_an_answer() {
    let (replicas, first) = Replicas::first(3).await;
    assert_eq!(ask(&first, SETTLED).await, miss(3));
    let mut redis = replicas.redis().await;
    let key = &replicas.only_key(&first, SETTLED).await;
    let entry: Vec<u8> = redis.get(key).await.unwrap();
    let mut flipped = entry.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (what, value) in [
        ("nothing", Vec::new()),
        ("cut short", entry[..entry.len() / 2].to_vec()),
        ("cut to its head", entry[..25].to_vec()),
        ("one bit off", flipped),
        ("followed by more", [&entry[..], b"}"].concat()),
        ("some other program's text", b"{\"rows\":[],\"total\":{\"requests\":999999}}".repeat(10)),
        ("far too long", vec![b'x'; 9 << 20]),
    ] {
        redis.set::<_, _, ()>(key, value).await.unwrap();
        let replica = replicas.another(&first).await;
        assert_eq!(ask(&replica, SETTLED).await, miss(3), "{what}");
        // And it is put right again.
        replicas.finds(&first, SETTLED, 3).await;
    }
    redis.del::<_, ()>(key).await.unwrap();
    redis.rpush::<_, _, ()>(key, "a list, which GET refuses").await.unwrap();
    assert_eq!(ask(&replicas.another(&first).await, SETTLED).await, miss(3), "wrong type");
    replicas.finds(&first, SETTLED, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_data_folded_into_a_closed_day_makes_a_settled_answer_be_made_anew() {
    let (replicas, first) = Replicas::first(3).await;
    first.fold().await;
    first.refresh().await;
    first.jobs.synchronise().await.unwrap();
    assert_eq!(ask(&first, SETTLED).await, miss(3));
    let second = replicas.finds(&first, SETTLED, 3).await;

    first.accept(&yesterday(4)).await;
    first.fold().await;
    first.jobs.synchronise().await.unwrap();
    assert_eq!(ask(&first, SETTLED).await, miss(7));
    // The other replica looks by itself, every two seconds, and finds what the first has made.
    let began = Instant::now();
    until("the other replica knows", async || ask(&second, SETTLED).await.2 == 7).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    replicas.finds(&first, SETTLED, 7).await;

    // Data of today moves nothing: the answers about closed days stay where they are.
    first.accept(&[record("2026-11-21T10:05:00Z", "/a", 5.0)]).await;
    first.fold().await;
    first.jobs.synchronise().await.unwrap();
    assert_eq!(ask(&first, SETTLED).await, hit(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_redis_is_kept_in_the_process() {
    let app = TestApp::start().await;
    app.accept(&yesterday(3)).await;
    assert_eq!(ask(&app, SETTLED).await, miss(3));
    assert_eq!(ask(&app, SETTLED).await, hit(3));
    // How old it is shows in a header, so that a client's own cache does not count its lifetime twice.
    app.clock.advance(chrono::TimeDelta::seconds(90));
    let response = app.request(Method::GET, SETTLED).send().await.unwrap();
    assert_eq!(
        (&response.headers()["age"], &response.headers()["x-cache"]),
        (&"90".parse().unwrap(), &"hit".parse().unwrap())
    );
    assert_eq!(response.json::<Value>().await.unwrap()["data_through"], json!("2026-11-21T10:20:30Z"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_makes_no_answer_fresh_again() {
    let (replicas, first) = Replicas::first(3).await;
    assert_eq!(ask(&first, SETTLED).await, miss(3));
    replicas.only_key(&first, SETTLED).await;
    // A machine whose clock is an hour behind takes over as the database, and the service's clock follows.
    let back = first.clock.now() - chrono::TimeDelta::hours(1);
    first.clock.set(back);
    first.accept(&yesterday(4)).await;
    assert_eq!(ask(&first, SETTLED).await, miss(7), "an answer of the future would be told for an hour more");
    assert_eq!(ask(&first, SETTLED).await, hit(7));
    // Nor does it keep the new one out of Redis.
    until("another replica finds the new answer", async || {
        let other = TestApp::on(Arc::clone(&first.database), Setup { now: back, ..replicas.setup() }).await;
        let seen = ask(&other, SETTLED).await;
        assert_eq!(seen.2, 7);
        seen == hit(7)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_as_the_last_known_answer_keeps_no_answer_out() {
    let (replicas, first) = Replicas::first(3).await;
    assert_eq!(ask(&first, SETTLED).await, miss(3));
    let mut redis = replicas.redis().await;
    let key = replicas.only_key(&first, SETTLED).await;
    redis.set::<_, _, ()>(key.replace(":g0", ":last"), vec![b'x'; 200]).await.unwrap();
    redis.del::<_, ()>(&key).await.unwrap();
    assert_eq!(ask(&replicas.another(&first).await, SETTLED).await, miss(3));
    replicas.finds(&first, SETTLED, 3).await;
}
