//! Questions answered by a read replica: a real one, streaming, that is paused, frozen and killed.
//!
//! The clock of these services is moved by hand, and stands two seconds ahead of the beats that date the replica: so the
//! instant an answer speaks for tells who gave it. The primary's is the clock's; the replica's is older.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use endpoint_stats::store::ReplicaConfig;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::sync::MutexGuard;

use crate::harness::servers::free_port;
use crate::harness::standby::{Pair, pair};
use crate::harness::{Database, Setup, TestApp, http_client, process, record, until};

/// How far the services' clock is ahead.
const AHEAD: TimeDelta = TimeDelta::seconds(2);

/// How far behind a replica may be: the usual.
const MAX_LAG: TimeDelta = TimeDelta::seconds(10);

/// Whether there has been a beat.
const BEATS: &str = "SELECT count(*) FROM replication_beat WHERE beat_at > '-infinity'";

/// A service with a replica.
struct Scene {
    pair: MutexGuard<'static, Pair>,
    app: TestApp,
    asked: AtomicU32,
}

/// An answer, and who gave it.
#[derive(Debug)]
struct Seen {
    body: Value,
    requests: i64,
    through: DateTime<Utc>,
    by_replica: bool,
    age: i64,
    took: Duration,
}

fn setup(replica: Option<ReplicaConfig>) -> Setup {
    Setup { now: Utc::now() + AHEAD, replica, ..Setup::default() }
}

fn replica(url: String) -> ReplicaConfig {
    ReplicaConfig { url, pool_min: 0, pool_max: 6, max_lag: MAX_LAG }
}

impl Scene {
    /// Three requests on `/a` a minute ago, for which the replica answers.
    async fn start() -> Self {
        let pair = pair().await;
        let database = Database::on(pair.primary_url()).await;
        let replica = replica(pair.replica_url(&database));
        let app = TestApp::on(database, setup(Some(replica))).await;
        let scene = Self { pair, app, asked: AtomicU32::new(0) };
        scene.accept(3, "/a").await;
        scene.replica_answers(3).await;
        scene
    }

    /// So many requests a minute ago.
    async fn accept(&self, requests: usize, route: &str) {
        let minute_ago = (Utc::now() - TimeDelta::minutes(1)).to_rfc3339();
        self.app.accept(&vec![record(&minute_ago, route, 5.0); requests]).await;
    }

    /// Asks what no cache has, with the clock so far ahead of the beats.
    async fn ask_at(&self, ahead: TimeDelta) -> Seen {
        let limit = 1 + self.asked.fetch_add(1, Ordering::Relaxed) % 1_000;
        self.ask_for(&format!("/api/v1/endpoints/top?window=2h&limit={limit}"), "max-age=0", ahead).await
    }

    async fn ask(&self) -> Seen {
        self.ask_at(AHEAD).await
    }

    async fn ask_for(&self, path: &str, cache_control: &str, ahead: TimeDelta) -> Seen {
        let now = (Utc::now() + ahead).trunc_subsecs(3);
        self.app.clock.set(now);
        let began = Instant::now();
        let response = self.app.request(Method::GET, path).header("Cache-Control", cache_control).send().await.unwrap();
        let took = began.elapsed();
        let status = response.status();
        let age = response.headers().get("age").map_or(-1, |age| age.to_str().unwrap().parse().unwrap());
        let text = response.text().await.unwrap();
        assert_eq!(status, StatusCode::OK, "GET {path}: {text}");
        let body: Value = serde_json::from_str(&text).unwrap();
        let requests = body["total"]["requests"].as_i64().unwrap_or(-1);
        let through: DateTime<Utc> = body["data_through"].as_str().unwrap().parse().unwrap();
        assert!(through <= now, "{through} is not yet: {now}");
        Seen { body, requests, through, by_replica: through < now, age, took }
    }

    /// Waits until the replica answers, with so many requests.
    async fn replica_answers(&self, requests: i64) {
        until("the replica answers", async || {
            let seen = self.ask().await;
            seen.by_replica && seen.requests == requests
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replica_answers_and_says_as_of_when() {
    let scene = Scene::start().await;
    scene.pair.pause().await;
    let paused = Utc::now();
    scene.accept(2, "/a").await;

    let seen = scene.ask().await;
    assert!(seen.by_replica && seen.requests == 3, "within the limit its older state will do: {seen:?}");
    assert!(seen.through <= paused, "{} is later than {paused}", seen.through);
    assert!((2..=8).contains(&seen.age), "it is as old as what it is made of: {seen:?}");
    let id = seen.body["rows"][0]["id"].as_i64().unwrap();
    let every = [
        "/api/v1/overview?window=2h".to_owned(),
        "/api/v1/daily".to_owned(),
        format!("/api/v1/endpoints/{id}?window=2h"),
        format!("/api/v1/endpoints/{id}/series?window=2h"),
        format!("/api/v1/endpoints/{id}/requests?window=2h"),
    ];
    for path in &every {
        let question = scene.ask_for(path, "max-age=0", AHEAD).await;
        assert_eq!(question.through, seen.through, "{path} is answered by the replica too");
    }

    let path = "/api/v1/endpoints/top?window=2h&limit=1000";
    let present = scene.ask_for(path, "no-cache", AHEAD).await;
    assert!(!present.by_replica && present.requests == 5, "no-cache is the present state: {present:?}");
    for path in &every {
        assert!(!scene.ask_for(path, "no-cache", AHEAD).await.by_replica, "{path}");
    }

    scene.pair.resume().await;
    scene.replica_answers(5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_the_replica_does_not_know_yet_exists() {
    let scene = Scene::start().await;
    scene.pair.pause().await;
    scene.accept(2, "/new").await;
    let present = scene.ask_for("/api/v1/endpoints/top?window=2h&route=new", "no-cache", AHEAD).await;
    let id = present.body["rows"][0]["id"].as_i64().unwrap();
    for path in ["", "/series", "/requests"] {
        let seen = scene.ask_for(&format!("/api/v1/endpoints/{id}{path}"), "max-age=0", AHEAD).await;
        assert!(!seen.by_replica, "{seen:?}");
    }
    // What does not exist is not found by anybody.
    let response = scene.app.request(Method::GET, "/api/v1/endpoints/999999").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    scene.pair.resume().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_too_far_behind_gives_way_to_the_primary() {
    let scene = Scene::start().await;
    scene.pair.pause().await;
    scene.accept(2, "/a").await;
    let seen = scene.ask().await;
    assert!(seen.by_replica && seen.requests == 3, "{seen:?}");
    for _ in 0..3 {
        let seen = scene.ask_at(MAX_LAG + TimeDelta::seconds(1)).await;
        assert!(!seen.by_replica && seen.requests == 5, "behind by more than the limit: {seen:?}");
    }
    scene.pair.resume().await;
    scene.replica_answers(5).await;
}

/// Asks a few times; each must be right, the primary's, and in time.
async fn the_primary_answers_without_delay(scene: &Scene, requests: i64) {
    let first = scene.ask().await;
    assert!(!first.by_replica && first.requests == requests, "{first:?}");
    assert!(
        first.took < Duration::from_secs(3),
        "half a second for the replica, and the primary's own time: {first:?}"
    );
    let mut took = Duration::ZERO;
    for _ in 0..6 {
        let seen = scene.ask().await;
        assert!(!seen.by_replica && seen.requests == requests, "{seen:?}");
        took += seen.took;
    }
    assert!(took < Duration::from_secs(2), "none of the six waits for the replica again: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hangs_costs_one_question_half_a_second() {
    let scene = Scene::start().await;
    scene.pair.freeze();
    scene.accept(2, "/a").await;
    the_primary_answers_without_delay(&scene, 5).await;
    scene.pair.thaw();
    scene.replica_answers(5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_killed_is_missed_by_nobody() {
    let mut scene = Scene::start().await;
    scene.pair.kill();
    scene.accept(2, "/a").await;
    the_primary_answers_without_delay(&scene, 5).await;
    scene.pair.run().await;
    scene.replica_answers(5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_hangs_on_the_replica_is_answered_in_time() {
    let scene = Scene::start().await;
    // The replica holds the lock for as long as it has not replayed the end of the transaction.
    let mut client = scene.app.database.connect().await;
    let lock = client.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE endpoint_hourly_stats IN ACCESS EXCLUSIVE MODE").await.unwrap();
    scene.pair.replica_holds_a_lock().await;
    scene.pair.pause().await;
    lock.commit().await.unwrap();
    scene.accept(2, "/a").await;

    let seen = scene.ask().await;
    assert!(!seen.by_replica && seen.requests == 5, "{seen:?}");
    assert!(seen.took > Duration::from_millis(1_200), "the replica was asked: {seen:?}");
    assert!(seen.took < Duration::from_secs(3), "a question has five seconds, three of them the primary's: {seen:?}");
    the_primary_answers_without_delay(&scene, 5).await;
    scene.pair.resume().await;
    scene.replica_answers(5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_data_on_a_closed_day_is_never_hidden_by_an_old_replica() {
    let scene = Scene::start().await;
    let today = (Utc::now() + AHEAD).date_naive();
    let yesterday = today.pred_opt().unwrap();
    let noon = format!("{yesterday}T12:00:00Z");
    let path = format!("/api/v1/endpoints/top?from={yesterday}&to={today}");
    scene.app.accept(&vec![record(&noon, "/a", 5.0); 4]).await;
    scene.app.fold().await;
    scene.app.jobs.synchronise().await.unwrap();
    let question = |n: u32| format!("{path}&limit={n}");
    let mut asked = 1;
    until("the replica answers", async || {
        asked += 1;
        let seen = scene.ask_for(&question(asked), "max-age=0", AHEAD).await;
        seen.by_replica && seen.requests == 4
    })
    .await;

    scene.pair.pause().await;
    scene.app.accept(&[record(&noon, "/a", 5.0)]).await;
    let before = scene.app.store.generation();
    scene.app.fold().await;
    scene.app.jobs.synchronise().await.unwrap();
    assert!(scene.app.store.generation() > before);
    // Under the new generation nothing is cached. An old answer would be from now on, for half a day.
    for asked in [asked, asked, asked + 1] {
        let seen = scene.ask_for(&question(asked), "max-age=0", AHEAD).await;
        assert_eq!(seen.requests, 5, "{seen:?}");
    }
    scene.pair.resume().await;
    until("the replica answers", async || {
        asked += 1;
        let seen = scene.ask_for(&question(asked + 1), "max-age=0", AHEAD).await;
        assert_eq!(seen.requests, 5, "{seen:?}");
        seen.by_replica
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_replica_nothing_is_written_for_one() {
    let app = TestApp::start().await;
    let answer: Value = app.request(Method::GET, "/api/v1/overview").send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["data_through"], crate::harness::NOW);
    let database = Arc::clone(&app.database);
    app.stop().await;
    assert_eq!(database.number("SELECT count(*) FROM replication_beat WHERE beat_at = '-infinity'").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_database_is_not_taken_for_a_replica() {
    let (ours, other) = (Database::create().await, Database::create().await);
    let app = TestApp::on(ours, setup(Some(replica(other.url().to_owned())))).await;
    let minute_ago = (Utc::now() - TimeDelta::minutes(1)).to_rfc3339();
    app.accept(&[record(&minute_ago, "/a", 5.0)]).await;
    // The other one is in use too, so its beats go on. Copies of one template name the same installation.
    until("the service beats", async || app.database.number(BEATS).await == 1).await;
    other.execute("UPDATE rollup_state SET installation = gen_random_uuid()").await;
    for limit in 1..5 {
        other.execute("UPDATE replication_beat SET beat_at = clock_timestamp()").await;
        app.clock.set(Utc::now() + AHEAD);
        let path = format!("/api/v1/endpoints/top?window=2h&limit={limit}");
        let answer: Value = app.request(Method::GET, &path).send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["total"]["requests"], 1, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_asks_its_replica_also_without_jobs() {
    let pair = pair().await;
    let database = Database::on(pair.primary_url()).await;
    let url = pair.replica_url(&database);
    // The clock of the program is the real one, and how long this test takes is not known.
    let settings = [("DATABASE_READ_URL", url.as_str()), ("DATABASE_READ_MAX_LAG", "1h"), ("JOBS", "off")];
    let (child, address) = process::serve(&database, &settings).await;
    let client = http_client();
    let accept = async |requests: usize| {
        let minute_ago = (Utc::now() - TimeDelta::minutes(1)).to_rfc3339();
        let body = format!("{}\n", record(&minute_ago, "/a", 5.0)).repeat(requests);
        let sent = client.post(format!("{address}/api/v1/requests")).header("Content-Type", "application/x-ndjson");
        assert_eq!(sent.body(body).send().await.unwrap().status(), StatusCode::OK);
    };
    let asked = AtomicU32::new(1);
    let ask = async |cache_control: &str| {
        let limit = asked.fetch_add(1, Ordering::Relaxed);
        let url = format!("{address}/api/v1/endpoints/top?window=2h&limit={limit}");
        let answer = client.get(url).header("Cache-Control", cache_control).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        answer["total"]["requests"].as_i64().unwrap_or_else(|| panic!("{answer}"))
    };
    accept(3).await;
    until("the service beats", async || database.number(BEATS).await == 1).await;
    pair.catch_up().await;
    pair.pause().await;
    accept(2).await;
    assert_eq!(ask("no-cache").await, 5);
    until("the replica answers", async || ask("max-age=0").await == 3).await;
    pair.resume().await;
    until("the replica follows", async || ask("max-age=0").await == 5).await;
    drop(child);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lag_is_told_once_when_it_begins_and_once_when_it_ends() {
    let pair = pair().await;
    let database = Database::on(pair.primary_url()).await;
    let url = pair.replica_url(&database);
    let settings = [("DATABASE_READ_URL", url.as_str()), ("DATABASE_READ_MAX_LAG", "4s"), ("JOBS", "off")];
    let (_child, address, mut log) = process::serve_and_log(&database, &settings).await;
    let mut lines: Vec<String> = Vec::new();
    let mut told = |words: &str| {
        lines.extend(std::iter::from_fn(|| log.try_recv().ok()));
        lines.iter().filter(|line| line.contains(words)).count()
    };
    let client = http_client();
    let asked = AtomicU32::new(1);
    let ask = async || {
        let limit = 1 + asked.fetch_add(1, Ordering::Relaxed) % 1_000;
        let url = format!("{address}/api/v1/endpoints/top?window=2h&limit={limit}");
        assert_eq!(client.get(url).send().await.unwrap().status(), StatusCode::OK);
    };
    until("the service beats", async || database.number(BEATS).await == 1).await;
    pair.catch_up().await;
    ask().await;
    pair.pause().await;
    until("the lag is told", async || {
        ask().await;
        told("too far behind") > 0
    })
    .await;
    for _ in 0..20 {
        ask().await;
    }
    pair.resume().await;
    until("its end is told", async || {
        ask().await;
        told("answers questions again") > 0
    })
    .await;
    for _ in 0..20 {
        ask().await;
    }
    assert_eq!((told("too far behind"), told("answers questions again"), told("failed")), (1, 1, 0), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_replica_hangs_stops_well() {
    let Scene { pair, app, .. } = Scene::start().await;
    pair.freeze();
    let began = Instant::now();
    app.stop().await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    pair.thaw();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beat_from_the_future_is_replaced() {
    let database = Arc::new(Database::create().await);
    let itself = replica(database.url().to_owned());
    let _app = TestApp::on(Arc::clone(&database), setup(Some(itself))).await;
    // As after a failover to a machine whose clock is an hour behind.
    database.execute("UPDATE replication_beat SET beat_at = clock_timestamp() + interval '1 hour'").await;
    let present = "SELECT count(*) FROM replication_beat WHERE beat_at <= clock_timestamp()";
    until("the beat is of the present", async || database.number(present).await == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_away_does_not_keep_the_service_from_starting() {
    let database = Database::create().await;
    // A port that nobody listens on: it was free a moment ago.
    let port = free_port();
    let url = format!("postgres://somebody@127.0.0.1:{port}/stats");
    let (_child, address) = process::serve(&database, &[("DATABASE_READ_URL", &url)]).await;
    for limit in 1..4 {
        let url = format!("{address}/api/v1/endpoints/top?limit={limit}");
        assert_eq!(http_client().get(url).send().await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_refused_at_the_start() {
    let database = Database::create().await;
    for (url, lag, reason) in [
        ("secret", "10s", "DATABASE_READ_URL is not an address of a Postgres database"),
        ("postgres://u:secret@h:port/stats", "10s", "DATABASE_READ_URL is not an address of a Postgres database"),
        ("postgres://u:secret@127.0.0.1/stats", "1s", "DATABASE_READ_MAX_LAG must be at least 2s"),
    ] {
        let arguments = ["serve", "--database-read-url", url, "--database-read-max-lag", lag];
        let finished = process::run(&database, &arguments).await;
        assert_eq!(finished.code, Some(1), "{}", finished.stderr);
        assert!(finished.stderr.contains(reason), "{}", finished.stderr);
        assert!(!finished.stderr.contains("secret"), "{}", finished.stderr);
    }
}
