//! Rate limits: what a client is told, who counts as one, what replicas share, and what Redis can do to it: nothing.
//!
//! The clock stands still unless a test moves it, so a quota admits exactly its burst.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use endpoint_stats::cache::{Cache, CacheConfig, Debits, Namespace};
use endpoint_stats::domain::{ApiKey, Fingerprint, HandSetClock, MOST_AHEAD_US, Quota, Scope, Tat};
use endpoint_stats::limits::{Client, Kind, Limits, LimitsConfig};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use redis::AsyncCommands as _;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{NOW, Setup, TestApp, at, http_client, process, record, servers};

const QUESTION: &str = "/api/v1/overview?from=2026-11-20&to=2026-11-21";

fn quota(per_second: u32, burst: u32) -> Option<Quota> {
    Some(Quota::new(per_second, burst).expect("a quota"))
}

/// So many questions and batches.
fn limits(read: Option<Quota>, ingest: Option<Quota>) -> Setup {
    Setup { limits: LimitsConfig { read, ingest, failure: None }, ..Setup::default() }
}

async fn ask_as(app: &TestApp, forwarded_for: &str) -> Response {
    app.request(Method::GET, QUESTION).header("X-Forwarded-For", forwarded_for).send().await.unwrap()
}

async fn ask(app: &TestApp) -> Response {
    app.request(Method::GET, QUESTION).send().await.unwrap()
}

fn header<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

/// How many of the next questions are answered before the first that is refused, up to `most`.
async fn admitted(most: usize, mut ask: impl AsyncFnMut() -> Response) -> usize {
    for admitted in 0..most {
        let response = ask().await;
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            return admitted;
        }
        assert_eq!(response.status(), StatusCode::OK);
    }
    most
}

/// Waits until something is so; fails when it is not within seconds.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !so().await {
        assert!(began.elapsed() < Duration::from_secs(10), "{what}: not within 10 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_answered_and_then_429_until_retry_after_has_passed() {
    let app = TestApp::with(limits(quota(2, 5), None)).await;
    for left in (0..5).rev() {
        let response = ask(&app).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header(&response, "ratelimit-policy"), Some("\"read\";q=5;w=3"));
        assert_eq!(header(&response, "ratelimit"), Some(format!("\"read\";r={left};t=1").as_str()));
        assert_eq!(header(&response, "retry-after"), None);
    }
    let refused = ask(&app).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    for (name, value) in [
        ("retry-after", "1"),
        ("ratelimit-policy", "\"read\";q=5;w=3"),
        ("ratelimit", "\"read\";r=0;t=1"),
        ("content-type", "application/problem+json"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(header(&refused, name), Some(value), "{name}");
    }
    assert_eq!(header(&refused, "connection"), None, "a question has no body, so the connection stays");
    assert!(refused.headers().contains_key("x-request-id"));
    let problem: Value = refused.json().await.unwrap();
    assert_eq!((&problem["code"], &problem["status"]), (&"rate-limited".into(), &429.into()));

    app.clock.advance(TimeDelta::microseconds(499_999));
    assert_eq!(ask(&app).await.status(), StatusCode::TOO_MANY_REQUESTS);
    app.clock.advance(TimeDelta::microseconds(500_001));
    assert_eq!(admitted(9, async || ask(&app).await).await, 2, "two came back in the second of Retry-After");
    app.clock.advance(TimeDelta::hours(1));
    assert_eq!(admitted(9, async || ask(&app).await).await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_the_api_counts_and_says_so_and_no_other() {
    let app = TestApp::with(limits(quota(1, 4), quota(1, 1))).await;
    let etag = header(&ask(&app).await, "etag").unwrap().to_owned();
    let unchanged = app.request(Method::GET, QUESTION).header("If-None-Match", etag).send().await.unwrap();
    let wrong = app.request(Method::GET, "/api/v1/overview?window=never").send().await.unwrap();
    let not_offered = app.request(Method::DELETE, QUESTION).send().await.unwrap();
    for (left, response, status) in [(2, unchanged, 304), (1, wrong, 400), (0, not_offered, 405)] {
        assert_eq!(response.status(), status);
        assert_eq!(header(&response, "ratelimit"), Some(format!("\"read\";r={left};t=1").as_str()), "{status}");
    }
    assert_eq!(ask(&app).await.status(), StatusCode::TOO_MANY_REQUESTS);
    for path in ["/", "/livez", "/readyz", "/favicon.ico"] {
        for _ in 0..9 {
            let response = app.request(Method::GET, path).send().await.unwrap();
            assert!(response.status().is_success(), "{path}: {}", response.status());
            assert_eq!((header(&response, "ratelimit"), header(&response, "ratelimit-policy")), (None, None), "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_have_a_quota_of_their_own_and_a_refused_one_stores_nothing() {
    let app = TestApp::with(limits(quota(1, 1), quota(1, 2))).await;
    let send = async || app.post_ndjson(record("2026-11-20T10:05:00Z", "/a", 5.0).to_string()).await;
    let first = send().await;
    assert_eq!(header(&first, "ratelimit-policy"), Some("\"ingest\";q=2;w=2"));
    assert_eq!(send().await.status(), StatusCode::OK);
    let refused = send().await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&refused, "ratelimit"), Some("\"ingest\";r=0;t=1"));
    let answer: Value = ask(&app).await.json().await.unwrap();
    assert_eq!(answer["total"]["requests"], 2);
    assert_eq!(ask(&app).await.status(), StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_body_is_not_waited_for_and_its_connection_closes() {
    let app = TestApp::with(limits(None, quota(1, 1))).await;
    assert_eq!(app.post_ndjson("{}").await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let mut connection = TcpStream::connect(app.address).await.unwrap();
        let head = format!(
            "POST /api/v1/requests HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-ndjson\r\n{framing}\r\n\r\n"
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // To its end, though nothing of the body is ever sent.
        tokio::time::timeout(Duration::from_secs(5), connection.read_to_end(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8(answer).unwrap().to_lowercase();
        assert!(answer.starts_with("http/1.1 429 "), "{framing}: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{framing}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_trusted_proxy_each_client_has_a_quota_of_its_own() {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap(), "10.1.0.0/16".parse().unwrap()];
    let app = TestApp::with(Setup { trusted_proxies, ..limits(quota(1, 2), None) }).await;
    // In this order: each group is one client, and whoever comes first in it uses the quota.
    for (one, same) in [
        ("192.0.2.1", vec!["192.0.2.1", "198.51.100.1, 192.0.2.1", "192.0.2.1, 10.1.2.3", "::ffff:192.0.2.1"]),
        ("192.0.2.2", vec!["192.0.2.1, 192.0.2.2"]),
        ("2001:db8:1:2::1", vec!["2001:db8:1:2:3:4:5:6"]),
        ("2001:db8:1:3::1", vec![]),
        ("unknown", vec!["192.0.2.1, nonsense", "127.0.0.1", ""]),
    ] {
        assert_eq!(admitted(9, async || ask_as(&app, one).await).await, 2, "{one}");
        for same in same {
            assert_eq!(ask_as(&app, same).await.status(), StatusCode::TOO_MANY_REQUESTS, "{one} as {same}");
        }
    }
    let lines = app
        .request(Method::GET, QUESTION)
        .header("X-Forwarded-For", "192.0.2.9")
        .header("X-Forwarded-For", "192.0.2.1");
    assert_eq!(lines.send().await.unwrap().status(), StatusCode::TOO_MANY_REQUESTS, "the last line counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_says_of_its_address_changes_nothing() {
    let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    let app = TestApp::with(Setup { trusted_proxies, ..limits(quota(1, 2), None) }).await;
    let mut sent = 0;
    let forged = admitted(9, async || {
        sent += 1;
        let request = app.request(Method::GET, QUESTION).header("X-Forwarded-For", format!("10.0.0.{sent}"));
        request.header("Forwarded", format!("for=192.0.2.{sent}")).send().await.unwrap()
    });
    assert_eq!(forged.await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_failures_of_an_address_are_answered_429_and_keys_that_hold_are_not_in_their_way() {
    // Everybody is behind one address here, as behind a proxy that nobody named.
    let limits = LimitsConfig { failure: quota(1, 3), ..LimitsConfig::NONE };
    let app = TestApp::with(Setup { auth: true, limits, ..Setup::default() }).await;
    let key = ApiKey::generate().unwrap();
    assert!(app.store.create_api_key("good", key.prefix(), &key.hash(), Scope::Read).await.unwrap());
    let ask = async |key: Option<&str>| {
        let request = app.request(Method::GET, QUESTION);
        let request = match key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        request.send().await.unwrap()
    };
    assert_eq!(ask(Some(key.reveal())).await.status(), StatusCode::OK);
    // Without a key, with one that has not the form of any, and with one that was never made: each is a failure.
    for wrong in [None, Some("nonsense"), Some(ApiKey::generate().unwrap().reveal())] {
        assert_eq!(ask(wrong).await.status(), StatusCode::UNAUTHORIZED, "{wrong:?}");
    }
    for wrong in [None, Some("nonsense"), Some(ApiKey::generate().unwrap().reveal())] {
        let refused = ask(wrong).await;
        assert_eq!((refused.status(), header(&refused, "retry-after")), (StatusCode::TOO_MANY_REQUESTS, Some("1")));
        assert_eq!(header(&refused, "www-authenticate"), None);
        assert_eq!(refused.json::<Value>().await.unwrap()["code"], "rate-limited");
    }
    // Known since long or made just now, a key that holds is asked for nothing but itself.
    assert_eq!(ask(Some(key.reveal())).await.status(), StatusCode::OK);
    let new = ApiKey::generate().unwrap();
    assert!(app.store.create_api_key("new", new.prefix(), &new.hash(), Scope::Read).await.unwrap());
    assert_eq!(ask(Some(new.reveal())).await.status(), StatusCode::OK);
    app.clock.advance(TimeDelta::seconds(1));
    assert_eq!(ask(None).await.status(), StatusCode::UNAUTHORIZED, "one more a second");
    assert_eq!(ask(None).await.status(), StatusCode::TOO_MANY_REQUESTS);
}

/// A question that a replica with a Redis may ask.
fn shared(redis_url: &str) -> Setup {
    Setup { redis_url: Some(redis_url.to_owned()), ..limits(quota(10, 200), None) }
}

async fn redis_of(url: &str) -> redis::aio::MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.expect("Redis answers")
}

/// How many requests Redis knows of, the clock standing still, at 100 ms each; and the name they are under.
async fn told(redis: &mut redis::aio::MultiplexedConnection, app: &TestApp) -> (i64, String) {
    let mut names: Vec<String> = redis.keys("*:rate:*").await.unwrap();
    assert!(names.len() <= 1, "one client, one name: {names:?}");
    let Some(name) = names.pop() else { return (0, String::new()) };
    let tat: i64 = redis.get(&name).await.unwrap();
    ((tat - app.clock.now().timestamp_micros()) / 100_000, name)
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_a_quota_and_pay_back_what_they_overshoot() {
    let url = servers::redis_url();
    let mut redis = redis_of(&url).await;
    let first = TestApp::with(shared(&url)).await;
    let second = TestApp::on(Arc::clone(&first.database), shared(&url)).await;

    assert_eq!(admitted(300, async || ask(&first).await).await, 200);
    until("the first has told all", async || told(&mut redis, &first).await.0 == 200).await;

    // The other admits what comes until it has heard: a few requests, one after the other. On a busy machine Redis may not be
    // heard in time, and it tries again with the next request, so some more.
    let over = i64::try_from(admitted(300, async || ask(&second).await).await).unwrap();
    println!("overshoot: {over} of 200");
    assert!((1..=60).contains(&over), "overshoot: {over} of 200");
    until("the second has told all", async || told(&mut redis, &first).await.0 == 200 + over).await;

    // What was too much is waited for by the one that admitted it, and by the other from when it hears of it.
    let pays_back = TimeDelta::milliseconds(100 * over);
    for app in [&first, &second] {
        app.clock.advance(pays_back);
    }
    let refused = ask(&second).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    second.clock.advance(TimeDelta::milliseconds(100));
    assert_eq!(admitted(9, async || ask(&second).await).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_readable_stands_in_redis_and_nothing_for_long() {
    let url = servers::redis_url();
    let mut redis = redis_of(&url).await;
    let app = TestApp::with(shared(&url)).await;
    assert_eq!(admitted(20, async || ask(&app).await).await, 20);
    let mut name = String::new();
    until("all is told", async || {
        let (requests, found) = told(&mut redis, &app).await;
        name = found;
        requests == 20
    })
    .await;
    let (space, client) = name.split_once(":rate:").unwrap();
    assert!(space.starts_with("endpoint-stats:") && !name.contains("127.0"), "{name}");
    assert!(client.len() == 32 && client.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
    let milliseconds: i64 = redis.pttl(&name).await.unwrap();
    assert!((1..=3_000).contains(&milliseconds), "2 s of quota, and a second: {milliseconds}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_redis_away_or_silent_each_replica_limits_by_itself() {
    // A port where nobody listens, since its listener is gone; and one where nobody ever answers.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for (what, address) in [("away", gone), ("silent", silent.local_addr().unwrap())] {
        let url = format!("redis://{address}");
        let first = TestApp::with(shared(&url)).await;
        let second = TestApp::on(Arc::clone(&first.database), shared(&url)).await;
        for app in [&first, &second] {
            assert_eq!(admitted(300, async || ask(app).await).await, 200, "{what}");
        }
    }
}

/// The service's own way to Redis.
fn debits(redis_url: &str) -> Debits {
    let config = CacheConfig { redis_url: Some(redis_url.to_owned()), pool_max: 2, ..CacheConfig::default() };
    Cache::new(&config, Namespace::new(0, "test")).unwrap().debits().expect("there is a Redis")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_does_not_wait_for_redis() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let config = LimitsConfig { read: quota(10, 200), ..LimitsConfig::NONE };
    let mut times = Vec::new();
    for _ in 0..5 {
        // Each with a Redis that has not proved silent yet: this one's first debit takes the whole 40 ms of a visit.
        let clock = HandSetClock::at(at(NOW)).clock();
        let limits = Limits::new(config, clock, Some(debits(&url)), tokio::runtime::Handle::current());
        let client = Client::key("somebody".into());
        let began = Instant::now();
        assert!((0..200).all(|_| limits.check(&client, Kind::Read).unwrap().admitted));
        assert!(!limits.check(&client, Kind::Read).unwrap().admitted);
        times.push(began.elapsed());
    }
    // The fastest: any of them may have waited for the machine.
    let fastest = times.iter().min().unwrap();
    assert!(*fastest < Duration::from_millis(20), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_does_the_same_sums_as_the_service() {
    let debits = debits(&servers::redis_url());
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let (mut compared, mut asked) = (0, 0);
    while compared < 500 {
        asked += 1;
        assert!(asked < 1_000, "Redis does not answer");
        let client = Fingerprint::of(format!("{asked}").as_bytes());
        let mut now = at(NOW).timestamp_micros() + random.random_range(-1_000_000_000_000..1_000_000_000_000);
        let mut here = Tat::default();
        for _ in 0..random.random_range(1..8) {
            // Mostly on, sometimes back; mostly little, sometimes more than may ever be ahead.
            now += random.random_range(-200_000..1_000_000);
            let cost = if random.random_bool(0.1) { 2 * MOST_AHEAD_US } else { random.random_range(1..900_000) };
            // On a busy machine Redis may miss its 40 ms; whether it counted is not known then.
            let Some(there) = debits.debit(client, now, cost).await else { break };
            here = here.debited(now, cost);
            assert_eq!(there, here, "{asked}: {cost} at {now}");
            compared += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_redis_locks_nobody_out() {
    let url = servers::redis_url();
    let mut redis = redis_of(&url).await;
    let debits = debits(&url);
    let client = Fingerprint::of(b"client");
    let now = at(NOW).timestamp_micros();
    // Until it answers: its first connection may take too long.
    until("Redis answers", async || debits.debit(client, now, 1).await.is_some()).await;
    let name = redis.keys::<_, Vec<String>>("*:rate:*").await.unwrap().pop().unwrap();
    let (nothing, most) = (Tat::at_us(now + 5), Tat::at_us(now + MOST_AHEAD_US));
    for (garbage, expected) in
        [("", nothing), ("garbage", nothing), ("nan", nothing), ("-1e300", nothing), ("inf", most), ("1e300", most)]
    {
        redis.set::<_, _, ()>(&name, garbage).await.unwrap();
        assert_eq!(debits.debit(client, now, 5).await, Some(expected), "{garbage}");
    }
    redis.del::<_, ()>(&name).await.unwrap();
    redis.rpush::<_, _, ()>(&name, "a list, which GET refuses").await.unwrap();
    assert_eq!(debits.debit(client, now, 5).await, Some(nothing));
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_limits_unless_told_not_to() {
    let app = TestApp::start().await;
    let client = http_client();
    for (setting, read, ingest) in [
        ("1000", Some("\"read\";q=2000;w=2"), Some("\"ingest\";q=4000;w=2")),
        ("0", None, Some("\"ingest\";q=4000;w=2")),
    ] {
        let settings = [("RATE_LIMIT_READ", setting), ("TRUSTED_PROXIES", ""), ("JOBS", "off")];
        // The first time with its own default.
        let settings = if setting == "0" { &settings[..] } else { &settings[1..] };
        let (mut child, address) = process::serve(&app.database, settings).await;
        let asked = client.get(format!("{address}{QUESTION}")).send().await.unwrap();
        let sent = client.post(format!("{address}/api/v1/requests")).send().await.unwrap();
        assert_eq!(header(&asked, "ratelimit-policy"), read);
        assert_eq!(header(&sent, "ratelimit-policy"), ingest);
        child.kill().await.unwrap();
    }
}
