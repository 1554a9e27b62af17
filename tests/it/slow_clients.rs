//! Clients that are slow, by a bad line or on purpose: F15 to F18 of the list of failures that the service is held to.
//!
//! The times are shortened here; what they are otherwise is asserted beside them, in `src/http/listen.rs`.

use std::time::{Duration, Instant};

use endpoint_stats::http::TimeOuts;
use endpoint_stats::ingest::IngestConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::harness::{Database, Setup, TestApp, http_client, process, record};

const POST: &str = "POST /api/v1/requests HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n";

/// Sends `bytes` one at a time, `pause` apart, until the service closes; gives what it answered.
async fn trickle(mut connection: TcpStream, bytes: &[u8], pause: Duration) -> String {
    let mut answer = Vec::new();
    for byte in bytes {
        if connection.write_all(&[*byte]).await.is_err() {
            break;
        }
        let mut chunk = [0; 4_096];
        match tokio::time::timeout(pause, connection.read(&mut chunk)).await {
            // Nothing said yet: the next byte.
            Err(_) => {}
            Ok(Ok(0) | Err(_)) => return String::from_utf8(answer).unwrap(),
            Ok(Ok(read)) => answer.extend(&chunk[..read]),
        }
    }
    // A reset after the answer is an end as well: the service does not read what comes after it.
    let ended = tokio::time::timeout(Duration::from_secs(10), connection.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the connection is not closed after {:?}", String::from_utf8_lossy(&answer));
    String::from_utf8(answer).unwrap()
}

/// A connection whose own side takes in little, so that what is not read waits on the service's.
async fn narrow(address: std::net::SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(address).await.unwrap()
}

fn length_of(head: &str) -> usize {
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    length.trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_a_full_queue_answers_without_reading_the_body() {
    let app = TestApp::with(Setup {
        ingest: IngestConfig { queue_records: 2, ..Setup::default().ingest },
        ..Setup::default()
    })
    .await;
    let records = [record("2026-11-21T10:00:00Z", "/items", 1.0), record("2026-11-21T10:00:00Z", "/items", 2.0)];
    app.accept(&records).await;
    let holder = app.database.connect().await;
    holder.batch_execute("BEGIN; LOCK TABLE requests IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let queued = records.iter().map(|record| app.post("application/json", record.to_string()).send());
    let mut queued: JoinSet<_> = queued.map(tokio::spawn).collect();
    let deadline = Instant::now() + Duration::from_secs(5);
    while app.post_ndjson("nobody reads this").await.status() != 429 {
        assert!(Instant::now() < deadline, "the queue does not fill");
    }

    // A body that never ends: whatever would read it would read for ever.
    let mut refused = JoinSet::new();
    for _ in 0..50 {
        let mut connection = TcpStream::connect(app.address).await.unwrap();
        refused.spawn(async move {
            connection.write_all(format!("{POST}transfer-encoding: chunked\r\n\r\n").as_bytes()).await.unwrap();
            let (mut reading, mut writing) = connection.into_split();
            let sending = tokio::spawn(async move {
                let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
                let mut sent = 0;
                while writing.write_all(chunk.as_bytes()).await.is_ok() {
                    sent += chunk.len();
                }
                sent
            });
            let mut answer = Vec::new();
            let _ =
                tokio::time::timeout(Duration::from_secs(10), reading.read_to_end(&mut answer)).await.expect("closed");
            drop(reading);
            (String::from_utf8(answer).unwrap(), sending.await.unwrap())
        });
    }
    for (answer, sent) in refused.join_all().await {
        assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
        assert!(answer.to_lowercase().contains("retry-after: "), "{answer}");
        // What came until the connection was closed was thrown away: none of it was kept.
        println!("{} MiB sent", sent >> 20);
    }
    holder.batch_execute("COMMIT").await.unwrap();
    while let Some(answer) = queued.join_next().await {
        assert_eq!(answer.unwrap().unwrap().unwrap().status(), 200, "what was queued is stored");
    }
    app.accept(&records).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f16_a_head_that_comes_byte_by_byte_is_ended_with_408() {
    let time_outs = TimeOuts { head: Duration::from_millis(500), ..TimeOuts::default() };
    let app = TestApp::with(Setup { time_outs, ..Setup::default() }).await;
    let began = Instant::now();
    let head = format!("GET /livez HTTP/1.1\r\nhost: test\r\nx: {}", "y".repeat(500));
    let slow = TcpStream::connect(app.address).await.unwrap();
    let answer = trickle(slow, head.as_bytes(), Duration::from_millis(50)).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let took = began.elapsed();
    assert!((400..3_000).contains(&took.as_millis()), "{took:?}");
    // A client that connects and says nothing is told the same.
    let silent = trickle(TcpStream::connect(app.address).await.unwrap(), b"", Duration::ZERO).await;
    assert!(silent.is_empty() || silent.starts_with("HTTP/1.1 408 "), "{silent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f16_a_further_head_that_comes_byte_by_byte_ends_the_connection() {
    // actix' clock for these moves in half seconds, so less would be nothing at times.
    let short = Duration::from_secs(1);
    let app = TestApp::with(Setup {
        time_outs: TimeOuts { head: short, idle: short, ..TimeOuts::default() },
        ..Setup::default()
    })
    .await;
    let began = Instant::now();
    let mut connection = TcpStream::connect(app.address).await.unwrap();
    connection.write_all(b"GET /livez HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let head = format!("GET /livez HTTP/1.1\r\nhost: test\r\nx: {}", "y".repeat(500));
    let answer = trickle(connection, head.as_bytes(), Duration::from_millis(50)).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    let took = began.elapsed();
    assert!((1_500..5_000).contains(&took.as_millis()), "{took:?}");

    // One that asks again and again goes on for longer than that.
    let mut busy = TcpStream::connect(app.address).await.unwrap();
    let began = Instant::now();
    while began.elapsed() < 5 * short {
        busy.write_all(b"GET /livez HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
        let mut answer = [0; 4_096];
        assert!(busy.read(&mut answer).await.unwrap() > 0, "closed after {:?}", began.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// So many connections, or what the limit of open files leaves: here each takes one at the client's end and two at the
/// service's.
fn as_many_as(wanted: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok());
    wanted.min((files.unwrap_or(1_024usize) - 400) / 3)
}

/// The slowest of a hundred good requests, one after the other.
async fn slowest_of_a_hundred(app: &TestApp) -> Duration {
    let mut slowest = Duration::ZERO;
    for n in 0..100 {
        let began = Instant::now();
        let path = if n % 2 == 0 { "/livez" } else { "/api/v1/endpoints/top" };
        assert_eq!(app.request(reqwest::Method::GET, path).send().await.unwrap().status(), 200);
        slowest = slowest.max(began.elapsed());
    }
    slowest
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_hundreds_of_bodies_that_come_byte_by_byte_end_with_408_and_disturb_nobody() {
    let time_outs = TimeOuts { body: Duration::from_secs(3), ..TimeOuts::default() };
    let app = TestApp::with(Setup { time_outs, ..Setup::default() }).await;
    app.accept(&[record("2026-11-21T10:00:00Z", "/items", 1.0)]).await;
    let alone = slowest_of_a_hundred(&app).await;

    let began = Instant::now();
    let mut slow = JoinSet::new();
    let clients = as_many_as(1_000);
    for n in 0..clients {
        let mut connection = TcpStream::connect(app.address).await.unwrap();
        let how = if n % 2 == 0 { "content-length: 5000" } else { "transfer-encoding: chunked" };
        connection.write_all(format!("{POST}{how}\r\n\r\n").as_bytes()).await.unwrap();
        slow.spawn(async move {
            let body = if n % 2 == 0 { "[ ".repeat(10) } else { "1\r\n \r\n".repeat(4) };
            let began = Instant::now();
            (trickle(connection, body.as_bytes(), Duration::from_secs(1)).await, began.elapsed())
        });
    }
    println!("{clients} within {:?}", began.elapsed());
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                AND application_name = 'endpoint-stats' AND state <> 'idle'";
    assert_eq!(app.database.number(busy).await, 0, "a connection to the database is held");
    let meanwhile = slowest_of_a_hundred(&app).await;
    println!("slowest of a hundred: {alone:?} alone, {meanwhile:?} beside slow bodies");
    // Bounded, on two cores that other tests use too.
    assert!(meanwhile < Duration::from_millis(500), "{meanwhile:?}, alone {alone:?}");
    assert_eq!(app.database.number(busy).await, 0, "a connection to the database is held");
    app.accept(&[record("2026-11-21T10:00:00Z", "/items", 1.0)]).await;

    for (answer, took) in slow.join_all().await {
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
        assert!(answer.contains("body-too-slow"), "{answer}");
        assert!((2..12).contains(&took.as_secs()), "{took:?}");
    }
    app.accept(&[record("2026-11-21T10:00:00Z", "/items", 1.0)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_slow_bodies_cost_kilobytes_each() {
    let database = Database::create().await;
    let (mut service, address) = process::serve(&database, &[("JOBS", "off")]).await;
    let address = address.strip_prefix("http://").unwrap().to_owned();
    let clients = as_many_as(1_000);
    let connect = async || {
        let mut connections = Vec::new();
        for _ in 0..clients {
            let mut connection = TcpStream::connect(&address).await.unwrap();
            connection.write_all(format!("{POST}content-length: 5000\r\n\r\n[").as_bytes()).await.unwrap();
            connections.push(connection);
        }
        // Every worker has taken its share once it answers a request that came after them.
        for _ in 0..4 {
            assert_eq!(http_client().get(format!("http://{address}/livez")).send().await.unwrap().status(), 200);
        }
        connections
    };
    http_client().get(format!("http://{address}/livez")).send().await.unwrap();
    let Some(before) = resident(service.id().unwrap()) else { return };
    let _connections = connect().await;
    let grown = resident(service.id().unwrap()).unwrap().saturating_sub(before);
    println!("{clients} bodies that have begun: {} KiB each", (grown >> 10) / clients);
    assert!(grown < clients * (40 << 10), "{} KiB for {clients}", grown >> 10);
    service.kill().await.unwrap();
}

/// As many rows as an answer may have, of long names: megabytes.
fn many_endpoints(timestamp: &str) -> Vec<serde_json::Value> {
    let route = |n: usize| format!("/{}/{n}", "a-long-route-without-numbers".repeat(3));
    let mut records: Vec<_> = (0..10_000).map(|n| record(timestamp, &route(n), 1.0)).collect();
    for (n, record) in records.iter_mut().enumerate() {
        record["service"] = format!("service-{}", n % 6).into();
    }
    records
}

const LARGE: &str = "/api/v1/daily?window=24h&limit=10000";

#[tokio::test(flavor = "multi_thread")]
async fn f18_a_client_that_does_not_take_its_answer_loses_its_connection() {
    let time_outs = TimeOuts { written: Duration::from_secs(1), ..TimeOuts::default() };
    let app = TestApp::with(Setup { time_outs, ..Setup::default() }).await;
    for records in many_endpoints("2026-11-21T10:00:00Z").chunks(5_000) {
        app.accept(records).await;
    }
    let whole = app.request(reqwest::Method::GET, LARGE).send().await.unwrap().bytes().await.unwrap().len();
    println!("an answer of {} KiB", whole >> 10);
    assert!(whole > 2 << 20, "{whole}");

    let request = format!("GET {LARGE} HTTP/1.1\r\nhost: test\r\n\r\n");
    let mut silent = narrow(app.address).await;
    silent.write_all(request.as_bytes()).await.unwrap();
    let mut trickling = narrow(app.address).await;
    trickling.write_all(request.as_bytes()).await.unwrap();
    // Slow, yet fast enough: all of it within what its length allows.
    let mut slow = TcpStream::connect(app.address).await.unwrap();
    slow.write_all(request.as_bytes()).await.unwrap();
    let slow = tokio::spawn(async move {
        let (mut read, mut buffer) = (0, vec![0; whole / 10]);
        while read < whole {
            tokio::time::sleep(Duration::from_millis(100)).await;
            match slow.read(&mut buffer).await.unwrap() {
                0 => break,
                more => read += more,
            }
        }
        read
    });

    let began = Instant::now();
    let trickling = tokio::spawn(async move {
        let (mut read, mut buffer) = (0, [0; 512]);
        while let Ok(more) = trickling.read(&mut buffer).await {
            if more == 0 {
                break;
            }
            read += more;
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(began.elapsed() < Duration::from_secs(60), "a trickle goes on after {read} bytes");
        }
        (read, began.elapsed())
    });
    // The kernel looks at its clock when it probes the closed window: 0.2 s, 0.4 s, 0.8 s apart and so on.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(2), silent.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "after {} bytes the connection is still open", rest.len());
    let head = String::from_utf8_lossy(&rest[..500.min(rest.len())]).to_lowercase();
    assert!(head.is_empty() || rest.len() < length_of(&head), "the whole answer was waiting");

    let (read, took) = trickling.await.unwrap();
    println!("a trickle: cut off after {} KiB in {took:?}", read >> 10);
    assert!(read < whole);
    assert!(slow.await.unwrap() >= whole, "a slow client that takes its answer has all of it");
}

/// What a process has in memory, bytes; where Linux tells.
pub fn resident(process: u32) -> Option<usize> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1_024)
}

#[tokio::test(flavor = "multi_thread")]
async fn f18_clients_that_do_not_read_cost_kilobytes_each() {
    const CLIENTS: usize = 200;
    let database = Database::create().await;
    let (mut service, address) = process::serve(&database, &[("JOBS", "off")]).await;
    let client = http_client();
    let now = chrono::Utc::now().to_rfc3339();
    for records in many_endpoints(&now).chunks(5_000) {
        let body = records.iter().map(|record| format!("{record}\n")).collect::<String>();
        let request = client.post(format!("{address}/api/v1/requests")).header("Content-Type", "application/x-ndjson");
        assert_eq!(request.body(body).send().await.unwrap().status(), 200);
    }
    let ask = async || client.get(format!("{address}{LARGE}")).send().await.unwrap().bytes().await.unwrap().len();
    let whole = ask().await.max(ask().await);
    let Some(before) = resident(service.id().unwrap()) else { return };

    let address = address.strip_prefix("http://").unwrap().parse().unwrap();
    let mut unread = Vec::new();
    for _ in 0..CLIENTS {
        let mut connection = narrow(address).await;
        connection.write_all(format!("GET {LARGE} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes()).await.unwrap();
        unread.push(connection);
    }
    for connection in &unread {
        connection.readable().await.unwrap();
    }
    let grown = resident(service.id().unwrap()).unwrap().saturating_sub(before);
    println!("{CLIENTS} clients, {} KiB each: {} KiB more, {} each", whole >> 10, grown >> 10, (grown >> 10) / CLIENTS);
    // A copy of the answer for the cache to share, the buffers of a connection, and no copy for each client.
    assert!(grown < 2 * whole + CLIENTS * (96 << 10), "{} MiB for {CLIENTS} clients", grown >> 20);
    service.kill().await.unwrap();
}
