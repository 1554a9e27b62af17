//! The one moment at which nobody can know: `COMMIT` has reached Postgres and its answer is lost on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Database, http_client, process};

/// A way to Postgres that, once `armed`, cuts the next connection on which Postgres says that it has committed, and keeps that
/// to itself. Gives its address.
async fn way_to(database: &Database, armed: Arc<AtomicBool>) -> String {
    let mut url = url::Url::parse(database.url()).unwrap();
    let postgres = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (postgres, armed) = (postgres.clone(), Arc::clone(&armed));
            tokio::spawn(async move {
                let server = TcpStream::connect(postgres).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let asking = tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
                });
                let mut said = [0; 16 * 1024];
                while let Ok(length @ 1..) = from_server.read(&mut said).await {
                    // The tag of a completed command, as the protocol has it (PostgreSQL documentation, section 55.7).
                    let committed = said[..length].windows(7).any(|tag| tag == b"COMMIT\0");
                    if committed && armed.swap(false, Ordering::SeqCst) {
                        break;
                    }
                    if to_client.write_all(&said[..length]).await.is_err() {
                        break;
                    }
                }
                asking.abort();
            });
        }
    });
    url.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_told_as_unknown_and_counts_once_when_sent_again() {
    let database = Database::create().await;
    let armed = Arc::new(AtomicBool::new(false));
    let way = way_to(&database, Arc::clone(&armed)).await;
    let (_child, address) = process::serve(&database, &[("DATABASE_URL", &way), ("JOBS", "off")]).await;
    let client = http_client();
    let now = chrono::Utc::now().to_rfc3339();
    let record = format!(r#"{{"timestamp":"{now}","service":"shop","method":"GET","route":"/a","status":200}}"#);
    let send = |key: &str| {
        let request = client.post(format!("{address}/api/v1/requests")).header("Content-Type", "application/x-ndjson");
        request.header("Idempotency-Key", key).body(record.clone()).send()
    };
    assert_eq!(send("before").await.unwrap().status(), 200);
    for round in 1..=5 {
        let key = format!("batch-{round}");
        armed.store(true, Ordering::SeqCst);
        let lost = send(&key).await.unwrap();
        assert!(!armed.load(Ordering::SeqCst), "the connection was cut");
        assert_eq!((lost.status().as_u16(), &lost.headers()["retry-after"]), (503, &"2".parse().unwrap()));
        assert_eq!(lost.json::<Value>().await.unwrap()["code"], "commit-unknown");
        let again = send(&key).await.unwrap();
        assert_eq!(
            (again.status().as_u16(), &again.headers()["idempotency-replayed"]),
            (200, &"true".parse().unwrap())
        );
        assert_eq!(database.number("SELECT count(*) FROM requests").await, round + 1, "stored, and once");
        assert_eq!(database.number("SELECT sum(request_count)::bigint FROM rollup_deltas").await, round + 1);
    }
}
