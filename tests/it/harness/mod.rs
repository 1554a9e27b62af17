//! Starts what the tests need, once, and makes each test a service of its own.
//!
//! One Postgres and one Redis serve all tests of a run; each test has its own database, copied from a migrated template, and
//! its own numbered Redis database. Both servers end with this process, however it ends. `TEST_DATABASE_URL`
//! names another Postgres to use instead, one run at a time.

pub mod compressed;
pub mod data;
pub mod held;
pub mod process;
pub mod servers;
pub mod standby;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use endpoint_stats::app::{AppConfig, Application};
use endpoint_stats::cache::CacheConfig;
use endpoint_stats::domain::HandSetClock;
use endpoint_stats::http::{TimeOuts, TlsFiles};
use endpoint_stats::ingest::IngestConfig;
use endpoint_stats::jobs::{Jobs, JobsConfig, Retention};
use endpoint_stats::limits::LimitsConfig;
use endpoint_stats::store::{EndpointCaps, ReplicaConfig, Store, StoreConfig};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use held::Held;
pub use servers::Database;

/// The instant at which the hand-set clock of a test stands, unless it says otherwise: a Saturday morning.
pub const NOW: &str = "2026-11-21T10:20:30Z";

/// An instant.
pub fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap_or_else(|_| panic!("{text} is no instant"))
}

/// A running service with a database of its own.
pub struct TestApp {
    pub address: SocketAddr,
    pub clock: HandSetClock,
    pub jobs: Jobs,
    pub store: Arc<Store>,
    pub client: reqwest::Client,
    /// Shared, so that replicas can be started on it; dropped with the last of them.
    pub database: Arc<Database>,
    stop: CancellationToken,
    running: Option<JoinHandle<anyhow::Result<()>>>,
}

/// How a test's service differs from the usual one.
pub struct Setup {
    pub now: DateTime<Utc>,
    pub max_body_bytes: usize,
    pub ingest: IngestConfig,
    pub retention: Retention,
    pub redis_url: Option<String>,
    pub auth: bool,
    pub replica: Option<ReplicaConfig>,
    pub tls: Option<TlsFiles>,
    pub time_outs: TimeOuts,
    /// None, unless it is limits that are tested.
    pub limits: LimitsConfig,
    pub trusted_proxies: Vec<ipnet::IpNet>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            now: at(NOW),
            max_body_bytes: 16 << 20,
            ingest: IngestConfig {
                max_age: Some(chrono::TimeDelta::days(400)),
                caps: EndpointCaps { per_service: 2_000, services: 500, total: 50_000 },
                queue_records: 400_000,
            },
            retention: Retention {
                raw: Some(chrono::TimeDelta::days(30)),
                minutes: Some(chrono::TimeDelta::hours(48)),
                hours: Some(chrono::TimeDelta::days(400)),
            },
            redis_url: None,
            auth: false,
            replica: None,
            tls: None,
            time_outs: TimeOuts::default(),
            limits: LimitsConfig::NONE,
            trusted_proxies: Vec::new(),
        }
    }
}

impl TestApp {
    /// The usual service: clock at [`NOW`], no Redis, jobs only by hand.
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub async fn with(setup: Setup) -> Self {
        let database = Database::create().await;
        Self::on(database, setup).await
    }

    /// A service on a database that is there already; on [`TestApp::database`] of another, its second replica.
    pub async fn on(database: impl Into<Arc<Database>>, setup: Setup) -> Self {
        let database = database.into();
        let clock = HandSetClock::at(setup.now);
        let config = AppConfig {
            store: StoreConfig { url: database.url().to_owned(), pool_min: 0, pool_max: 6 },
            replica: setup.replica,
            cache: CacheConfig { redis_url: setup.redis_url, pool_min: 2, pool_max: 4, ..CacheConfig::default() },
            ingest: setup.ingest,
            maintenance: JobsConfig::new(setup.retention),
            limits: setup.limits,
            trusted_proxies: setup.trusted_proxies,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            auth: setup.auth,
            tls: setup.tls,
            time_outs: setup.time_outs,
            max_body_bytes: setup.max_body_bytes,
            jobs: false,
            migrate: false,
        };
        let application = Application::build(config, clock.clock()).await.expect("the service starts");
        let (address, jobs, store) = (application.address(), application.jobs(), application.store());
        let stop = CancellationToken::new();
        let running = tokio::spawn(application.run_until(stop.clone()));
        let client = http_client();
        Self { address, clock, jobs, store, client, database, stop, running: Some(running) }
    }

    /// Stops the service as SIGTERM does, and fails if it does not stop well.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            running.await.expect("no panic").expect("stops well");
        }
    }

    /// A request to a path of this service.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    /// The answer to a question, from Postgres, not from a cache.
    pub async fn get(&self, path: &str) -> Value {
        let response = self.request(Method::GET, path).header("Cache-Control", "no-cache").send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert_eq!(status, StatusCode::OK, "GET {path}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("GET {path}: not JSON: {text}"))
    }

    /// Sends records as NDJSON.
    pub async fn post_ndjson(&self, body: impl Into<reqwest::Body>) -> Response {
        self.post("application/x-ndjson", body).send().await.unwrap()
    }

    /// A POST of records that is not sent yet.
    pub fn post(&self, content_type: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.request(Method::POST, "/api/v1/requests").header("Content-Type", content_type).body(body)
    }

    /// Sends records and insists that all are accepted.
    pub async fn accept(&self, records: &[Value]) {
        let lines: Vec<String> = records.iter().map(Value::to_string).collect();
        let response = self.post_ndjson(lines.join("\n")).await;
        let status = response.status();
        let answer = response.text().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["accepted"], records.len(), "{answer}");
    }

    /// Folds all deltas.
    pub async fn fold(&self) {
        self.jobs.fold(&CancellationToken::new()).await.expect("fold");
    }

    /// Refreshes the daily view, due or not.
    pub async fn refresh(&self) {
        self.jobs.refresh(true).await.expect("refresh");
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A record with the usual service, method and status.
pub fn record(timestamp: &str, route: &str, response_time_ms: f64) -> Value {
    serde_json::json!({
        "timestamp": timestamp,
        "service": "shop",
        "method": "GET",
        "route": route,
        "status": 200,
        "response_time_ms": response_time_ms,
    })
}

/// Waits until something is so; fails when it is not within half a minute.
pub async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !so().await {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}: not within 30 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A header that must be there.
pub fn header<'r>(response: &'r Response, name: &str) -> &'r str {
    response.headers().get(name).unwrap_or_else(|| panic!("no {name} in {response:?}")).to_str().unwrap()
}

/// A client with connections of its own.
pub fn http_client() -> reqwest::Client {
    trusting(reqwest::Client::builder())
}

/// A client built from `builder`: its TLS is that of the service, which must be told before the first client is built.
pub fn trusting(builder: reqwest::ClientBuilder) -> reqwest::Client {
    // Fails only where it was installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    builder.build().expect("a client")
}
