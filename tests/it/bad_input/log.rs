//! What a client writes stays one line of the log: B16.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::GOOD;
use crate::harness::{Database, process};
use crate::logs::lines_of_files;

/// More than any line of the service's own.
const LINE_MAX_BYTES: usize = 8 * 1_024;

#[tokio::test(flavor = "multi_thread")]
async fn b16_whatever_a_client_sends_a_line_of_the_log_is_one_object() {
    assert_each_is_one_object(&log_of_bad_requests(&[]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn b16_so_it_is_where_the_log_goes_to_files() {
    let dir = tempfile::tempdir().unwrap();
    let told = log_of_bad_requests(&[("LOG_DIR", dir.path().to_str().unwrap())]).await;
    assert_eq!(told, Vec::<String>::new(), "stdout says where it listens and no more");
    assert_each_is_one_object(&lines_of_files(dir.path()));
}

/// What `serve` prints after it has said where it listens, while clients send what they should not.
async fn log_of_bad_requests(settings: &[(&str, &str)]) -> Vec<String> {
    let database = Database::create().await;
    let mut service = process::command(&["serve"])
        .env("DATABASE_URL", database.url())
        .env("LISTEN", "127.0.0.1:0")
        .env("RUST_LOG", "debug")
        .envs(settings.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(service.stdout.take().unwrap()).lines();
    let log = Arc::new(Mutex::new(Vec::new()));
    let address = loop {
        let line = lines.next_line().await.unwrap().expect("serve says where it listens");
        let event: Value = serde_json::from_str(&line).unwrap();
        if let Some(address) = event["address"].as_str() {
            break address.to_owned();
        }
    };
    let reading = tokio::spawn({
        let log = Arc::clone(&log);
        async move {
            while let Ok(Some(line)) = lines.next_line().await {
                log.lock().unwrap().push(line);
            }
        }
    });

    let forged = r#"{"level":"ERROR","message":"forged"}"#;
    let get = |target: &str, agent: &str| {
        format!("GET {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\nuser-agent: {agent}\r\n\r\n").into_bytes()
    };
    let encoded = "%0a%7b%22level%22:%22ERROR%22,%22message%22:%22forged%22%7d%0a%1b%5b2J";
    let post = |record: &str| {
        let head =
            "POST /api/v1/requests HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/json\r\n";
        format!("{head}content-length: {}\r\n\r\n{record}", record.len()).into_bytes()
    };
    let requests = [
        get("/livez", "good"),
        get(&format!("/{encoded}"), "good"),
        get(&format!("/api/v1/overview?service={encoded}"), "good"),
        get(&format!("/api/v1/overview?{encoded}=1"), "good"),
        get(&format!("/api/v1/endpoints/{encoded}"), "good"),
        get("/livez", "\x1b[2J\x1b[31mred"),
        get("/livez", &format!("a\n{forged}\n")),
        get("/livez", &format!("a\r{forged}\r")),
        get(&format!("/\n{forged}\n"), "good"),
        get("/\x1b[2J", "good"),
        get("/livez", &"u".repeat(1 << 20)),
        get("/livez", &"u".repeat(100 << 10)),
        get(&format!("/{}", "p".repeat(60 << 10)), "good"),
        get(&format!("/api/v1/overview?service={}", "q".repeat(60 << 10)), "good"),
        get(&format!("/api/v1/overview?{}=1", "n".repeat(60 << 10)), "good"),
        format!("{}\r\n\r\n", forged.repeat(10)).into_bytes(),
        post(&GOOD.replace("shop", "\\u001b[2J\\n{}")),
        post(&GOOD.replace("/items/{id}", "/\\u001b[2J\\n")),
        post(&format!("{GOOD}\n{forged}")),
        post(&GOOD.replace("GET", &"M".repeat(100 << 10))),
    ];
    for request in &requests {
        let mut connection = TcpStream::connect(&address).await.unwrap();
        let _ = connection.write_all(request).await;
        let closed = tokio::time::timeout(Duration::from_secs(5), connection.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "still open: {}", String::from_utf8_lossy(&request[..200.min(request.len())]));
    }
    // All of the log: the process ends, and with it the pipe.
    process::signal("TERM", service.id().unwrap());
    assert!(service.wait().await.unwrap().success());
    reading.await.unwrap();

    let log = log.lock().unwrap();
    log.clone()
}

fn assert_each_is_one_object(log: &[String]) {
    for line in log {
        let beginning = &line[..line.floor_char_boundary(500)];
        let event: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {beginning}"));
        assert!(event["timestamp"].is_string() && event["level"].is_string(), "{beginning}");
        assert_ne!(event["message"], "forged", "{beginning}");
        assert!(!line.contains(|character: char| character.is_control()), "{beginning}");
        assert!(line.len() < LINE_MAX_BYTES, "{} KiB: {beginning}", line.len() >> 10);
    }
    let longest = log.iter().map(String::len).max().unwrap_or_default();
    println!("{} lines, the longest of {longest} bytes", log.len());
    assert!(log.iter().any(|line| line.contains("\"stopped\"")), "all of it was read");
}
