//! The real binary told to stop, or killed, in the middle of its work: nothing acknowledged is lost, nothing counts twice.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::Utc;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::harness::{Database, Held, http_client, process, until};

/// Records of a batch: several, so that half a batch would show.
const BATCH: usize = 25;

/// Clients at once: more than the writer has flushes, so some batches always wait.
const CLIENTS: usize = 8;

/// A service without work stops at once; with work within a flush. Twenty times that, since the tests share two cores.
const STOPS_WITHIN: Duration = Duration::from_secs(15);

/// With a Postgres that does not answer: Kubernetes kills after 45 s, and the design leaves 25 s to requests.
const STOPS_WITHOUT_POSTGRES_WITHIN: Duration = Duration::from_secs(25);

/// The cap on endpoints out of the way: every batch has a route of its own.
const SETTINGS: [(&str, &str); 1] = [("MAX_ENDPOINTS_PER_SERVICE", "1000000")];

fn terminate(child: &Child) {
    process::signal("TERM", child.id().expect("it runs"));
}

/// Waits for the end of the process, which must be a good one.
async fn assert_stops_well(mut child: Child, within: Duration) -> Duration {
    let began = Instant::now();
    let status = tokio::time::timeout(within, child.wait()).await.expect("stops in time").unwrap();
    assert_eq!(status.code(), Some(0));
    began.elapsed()
}

/// Waits until a number is reached: a moment of the test that is told by what happened, not by a clock.
async fn reached(count: &AtomicUsize, wanted: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while count.load(Ordering::SeqCst) < wanted {
        assert!(Instant::now() < deadline, "{} of {wanted} after a minute", count.load(Ordering::SeqCst));
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

fn random(below: u64) -> usize {
    (RandomState::new().hash_one(0) % below) as usize
}

/// A batch of records on one route.
fn batch(route: &str) -> String {
    let now = Utc::now();
    let record = json!({"timestamp": now, "service": "load", "method": "POST", "route": route, "status": 200, "response_time_ms": 1.5});
    format!("{record}\n").repeat(BATCH)
}

async fn post(client: &reqwest::Client, address: &str, body: String, key: Option<&str>) -> reqwest::Result<Response> {
    let mut request = client
        .post(format!("{address}/api/v1/requests"))
        .header("Content-Type", "application/x-ndjson")
        .timeout(Duration::from_secs(40))
        .body(body);
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    request.send().await
}

/// Rows by route.
async fn rows(database: &Database) -> BTreeMap<String, i64> {
    let statement = "SELECT route, count(*) FROM requests JOIN endpoints ON id = endpoint_id GROUP BY route";
    let rows = database.connect().await.query(statement, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn assert_verified(database: &Database) {
    let done = process::run(database, &["verify"]).await;
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (Some(0), "", ""));
}

/// New connections find nobody.
async fn assert_refused(address: &str) {
    let refused = http_client().get(format!("{address}/livez")).send().await.unwrap_err();
    assert!(refused.is_connect(), "{refused:?}");
}

/// Posts batch after batch, each with a route of its own, until nobody answers. Gives the routes that were acknowledged, and
/// those of requests that ended in neither an answer nor a refused connection.
async fn client(name: String, address: String, acknowledged: Arc<AtomicUsize>) -> (Vec<String>, Vec<String>) {
    let client = http_client();
    let (mut routes, mut cut_off) = (Vec::new(), Vec::new());
    for n in 0.. {
        let route = format!("/{name}/batch-{n}");
        match post(&client, &address, batch(&route), None).await {
            Ok(answer) if answer.status() == StatusCode::OK => {
                acknowledged.fetch_add(1, Ordering::SeqCst);
                routes.push(route);
            }
            Ok(answer) => assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{route}"),
            Err(error) if error.is_connect() => break,
            Err(error) => {
                println!("{route}: cut off: {error:?}");
                cut_off.push(route);
            }
        }
    }
    (routes, cut_off)
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_under_load_it_stores_exactly_what_it_acknowledged() {
    let database = Database::create().await;
    let mut all_acknowledged = BTreeSet::new();
    for round in 0..5 {
        let (child, address) = process::serve(&database, &SETTINGS).await;
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        for n in 0..CLIENTS {
            clients.spawn(client(format!("round-{round}/client-{n}"), address.clone(), Arc::clone(&acknowledged)));
        }
        reached(&acknowledged, 1 + random(150)).await;
        terminate(&child);
        let took = assert_stops_well(child, STOPS_WITHIN).await;
        assert_refused(&address).await;
        let (routes, cut_off): (Vec<Vec<String>>, Vec<Vec<String>>) = clients.join_all().await.into_iter().unzip();
        all_acknowledged.extend(routes.concat());

        let rows = rows(&database).await;
        let (batches, cut_off) = (routes.concat().len(), cut_off.concat());
        println!("round {round}: {batches} acknowledged, {} cut off, stopped in {took:?}", cut_off.len());
        let stored = cut_off.iter().filter(|route| rows.contains_key(*route)).count();
        println!("round {round}: {stored} of those cut off are stored");
        for route in &all_acknowledged {
            assert_eq!(rows.get(route), Some(&(BATCH as i64)), "{route} was acknowledged");
        }
        // One that nobody acknowledged is whole or not there, and never twice.
        assert!(rows.values().all(|&count| count == BATCH as i64), "{rows:?}");
        // Not every cut can be avoided: a request may cross with the closing of its kept connection, and the next one may be
        // on a connection that the kernel took just before the listener closed. More than that would be too many.
        assert!(cut_off.len() <= 2 * CLIENTS, "{cut_off:?} were cut off");
    }
    assert_verified(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_without_load_it_stops_at_once_though_connections_are_kept_open() {
    let database = Database::create().await;
    let (child, address) = process::serve(&database, &[]).await;
    let client = http_client();
    assert!(client.get(format!("{address}/readyz")).send().await.unwrap().status().is_success());
    terminate(&child);
    assert_stops_well(child, STOPS_WITHIN).await;
    assert_refused(&address).await;
}

/// Clients with a connection each, over which a first batch went: its endpoint and its day are known from then on.
async fn connected_clients(address: &str) -> Vec<(reqwest::Client, String)> {
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        let (client, route) = (http_client(), format!("/client-{n}"));
        let answer = post(&client, address, batch(&route), None).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        clients.push((client, route));
    }
    clients
}

/// A second batch of each, on its way; the answers come when they come.
fn post_again(clients: Vec<(reqwest::Client, String)>, address: &str) -> JoinSet<reqwest::Result<Response>> {
    let mut answers = JoinSet::new();
    for (client, route) in clients {
        let address = address.to_owned();
        answers.spawn(async move { post(&client, &address, batch(&route), None).await });
    }
    answers
}

/// Waits until the service has surely read what was sent before: it answers others in the meantime.
async fn assert_alive(address: &str) {
    for _ in 0..50 {
        assert!(http_client().get(format!("{address}/livez")).send().await.unwrap().status().is_success());
    }
}

async fn until_somebody_waits_for_a_lock(database: &Database) {
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until("somebody waits for the lock", async || database.number(waiting).await > 0).await;
}

/// Told to stop while Postgres does not answer, it stops in time, tells every client to try again, and is gone.
async fn assert_stops_without_postgres(child: Child, address: &str, answers: JoinSet<reqwest::Result<Response>>) {
    assert_alive(address).await;
    terminate(&child);
    let took = assert_stops_well(child, STOPS_WITHOUT_POSTGRES_WITHIN).await;
    println!("stopped in {took:?}");
    assert_all_told_to_try_again(answers).await;
    assert_refused(address).await;
}

/// Every answer is "not stored, or not known; try again", in words.
async fn assert_all_told_to_try_again(answers: JoinSet<reqwest::Result<Response>>) {
    for answer in answers.join_all().await {
        let answer = answer.expect("an answer, not a reset");
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers().contains_key("Retry-After"));
        let problem: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        let code = problem["code"].as_str().unwrap();
        assert!(["timed-out", "database-unavailable", "commit-unknown"].contains(&code), "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_while_it_waits_for_another_to_migrate_it_stops() {
    let database = Database::create().await;
    let migrating = database.connect().await;
    let lock = "SELECT pg_advisory_lock(hashtext('endpoint_stats'), hashtext('migrate'))";
    migrating.batch_execute(lock).await.unwrap();
    let child = process::command(&["serve"])
        .env("DATABASE_URL", database.url())
        .env("LISTEN", "127.0.0.1:0")
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until_somebody_waits_for_a_lock(&database).await;
    terminate(&child);
    assert_stops_well(child, STOPS_WITHIN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn told_twice_to_stop_it_ends_at_once() {
    let database = Database::create().await;
    let (mut child, address) = process::serve(&database, &SETTINGS).await;
    let clients = connected_clients(&address).await;
    let held = Held::on(&database, "requests").await;
    let answers = post_again(clients, &address);
    held.reached().await;
    terminate(&child);
    // It has heard the first once it takes no new connections.
    let deadline = Instant::now() + STOPS_WITHIN;
    while http_client().get(format!("{address}/livez")).send().await.is_ok() {
        assert!(Instant::now() < deadline, "it does not hear");
    }
    terminate(&child);
    let status = tokio::time::timeout(STOPS_WITHIN, child.wait()).await.expect("ends").unwrap();
    // As a shell tells of a process that SIGTERM ended.
    assert_eq!(status.code(), Some(143));
    drop(answers);
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_while_postgres_holds_its_batches_it_stops_in_time_and_answers_everyone() {
    let database = Database::create().await;
    let (child, address) = process::serve(&database, &SETTINGS).await;
    let clients = connected_clients(&address).await;

    let held = Held::on(&database, "requests").await;
    let answers = post_again(clients, &address);
    held.reached().await;
    assert_stops_without_postgres(child, &address, answers).await;
    held.release().await;
    assert!(rows(&database).await.values().all(|&count| count == BATCH as i64));
    assert_verified(&database).await;
}

/// A way to Postgres that can fall silent: connections stay open and nothing comes through, as when a firewall drops packets.
/// Gives its address.
async fn way_to(database: &Database, silent: CancellationToken) -> String {
    let mut url = url::Url::parse(database.url()).unwrap();
    let postgres = (url.host_str().unwrap().to_owned(), url.port().unwrap_or(5432));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    tokio::spawn(async move {
        while let Ok((mut here, _)) = listener.accept().await {
            let (postgres, silent) = (postgres.clone(), silent.clone());
            tokio::spawn(async move {
                let connected = silent.run_until_cancelled(TcpStream::connect((postgres.0.as_str(), postgres.1))).await;
                if let Some(Ok(mut there)) = connected {
                    if silent.run_until_cancelled(tokio::io::copy_bidirectional(&mut here, &mut there)).await.is_some()
                    {
                        return;
                    }
                    // Neither end hears that the other has gone.
                    std::future::pending::<()>().await;
                }
                std::future::pending::<()>().await;
            });
        }
    });
    url.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_while_postgres_is_out_of_reach_it_stops_in_time_and_answers_everyone() {
    let database = Database::create().await;
    let silent = CancellationToken::new();
    let way = way_to(&database, silent.clone()).await;
    let (child, address) = process::serve(&database, &[("DATABASE_URL", &way), SETTINGS[0]]).await;
    let clients = connected_clients(&address).await;

    silent.cancel();
    let answers = post_again(clients, &address);
    assert_stops_without_postgres(child, &address, answers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_and_sent_again_with_the_same_keys_everything_counts_once() {
    let database = Database::create().await;
    for round in 0..4 {
        let (mut child, address) = process::serve(&database, &SETTINGS).await;
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        for n in 0..CLIENTS {
            let (address, acknowledged) = (address.clone(), Arc::clone(&acknowledged));
            clients.spawn(async move {
                let client = http_client();
                let mut sent = Vec::new();
                for batch_number in 0.. {
                    let key = format!("/killed-{round}/client-{n}/batch-{batch_number}");
                    let body = batch(&key);
                    let answer = post(&client, &address, body.clone(), Some(&key)).await;
                    let stored = answer.is_ok_and(|answer| answer.status() == StatusCode::OK);
                    sent.push((key, body, stored));
                    if !stored {
                        break;
                    }
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                }
                sent
            });
        }
        reached(&acknowledged, 1 + random(100)).await;
        // SIGKILL.
        child.kill().await.unwrap();
        let sent = clients.join_all().await.concat();

        let (child, address) = process::serve(&database, &SETTINGS).await;
        let client = http_client();
        let mut known_unacknowledged = 0;
        for (key, body, stored) in &sent {
            let answer = post(&client, &address, body.clone(), Some(key)).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            let replayed = answer.headers().contains_key("Idempotency-Replayed");
            assert!(replayed || !stored, "{key} was acknowledged and is not known");
            known_unacknowledged += usize::from(replayed && !stored);
            let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
            assert_eq!(answer["accepted"], BATCH, "{key}");
        }
        let rows = rows(&database).await;
        println!("round {round}: {} batches, {known_unacknowledged} stored without an answer", sent.len());
        assert!(sent.iter().all(|(key, ..)| rows.get(key) == Some(&(BATCH as i64))), "{rows:?}");
        assert!(rows.values().all(|&count| count == BATCH as i64), "{rows:?}");
        terminate(&child);
        assert_stops_well(child, STOPS_WITHIN).await;
    }
    assert_verified(&database).await;
}
