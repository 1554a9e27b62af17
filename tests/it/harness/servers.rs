//! Postgres and Redis for a whole run of tests.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use endpoint_stats::embedded::{Durability, EmbeddedError, EmbeddedPostgres, Options};
use tokio::sync::OnceCell;
use tokio_postgres::NoTls;

/// The database that every test's is a copy of.
const TEMPLATE: &str = "endpoint_stats_template";

struct Postgres {
    /// Address of the server's own database, for making others.
    url: String,
    /// Ends the server when this process ends.
    server: Option<EmbeddedPostgres>,
}

static POSTGRES: OnceCell<Postgres> = OnceCell::const_new();

async fn postgres() -> &'static Postgres {
    POSTGRES
        .get_or_init(|| async {
            let (url, server) = match std::env::var("TEST_DATABASE_URL") {
                Ok(url) => (url, None),
                Err(_) => {
                    let server = start_postgres("postgres", 300).await;
                    (server.url().to_owned(), Some(server))
                }
            };
            let postgres = Postgres { url, server };
            postgres.make_template().await;
            postgres
        })
        .await
}

/// A private Postgres in a folder whose name begins so.
pub(super) async fn start_postgres(name: &str, max_connections: u16) -> EmbeddedPostgres {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    // The same folder from run to run, so that a start takes no time; another one where two runs meet.
    let folders = (0..8).map(|n| folder.join(format!("{name}-{n}")));
    for data_dir in folders {
        let options = Options {
            data_dir,
            durability: Durability::Throwaway,
            max_connections,
            settings: vec![("shared_buffers".to_owned(), "64MB".to_owned())],
        };
        match EmbeddedPostgres::start(options).await {
            Err(EmbeddedError::AlreadyRunning(_)) => {}
            started => return started.expect("a private Postgres starts"),
        }
    }
    panic!("every folder for a private Postgres is in use");
}

impl Postgres {
    /// A migrated database to copy; on a server of our own, none of an earlier run.
    async fn make_template(&self) {
        let client = connect(&self.url).await;
        let leftovers = client
            .query("SELECT datname FROM pg_database WHERE datname ~ '^endpoint_stats_test_[0-9]'", &[])
            .await
            .unwrap();
        let ours = self.server.is_some();
        let leftovers: Vec<String> = leftovers.iter().filter(|_| ours).map(|row| row.get(0)).collect();
        for name in leftovers.iter().map(String::as_str).chain([TEMPLATE]) {
            client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await.unwrap();
        }
        client.batch_execute(&format!("CREATE DATABASE {TEMPLATE}")).await.unwrap();
        endpoint_stats::store::migrate(&sibling(&self.url, TEMPLATE)).await.expect("the template is migrated");
    }
}

/// The address of another database of the same server.
pub(super) fn sibling(url: &str, name: &str) -> String {
    let mut url = url::Url::parse(url).unwrap();
    url.set_path(name);
    url.to_string()
}

pub(super) async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("Postgres answers");
    tokio::spawn(connection);
    client
}

fn unused_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("endpoint_stats_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A test's own database; dropped with this, unless the test failed.
pub struct Database {
    url: String,
    name: String,
    server: String,
}

impl Database {
    /// A migrated database without data.
    pub async fn create() -> Self {
        Self::copy_of(&format!("TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")).await
    }

    /// A database without schema.
    pub async fn empty() -> Self {
        Self::copy_of("").await
    }

    /// A migrated database on a server of the test's own.
    pub async fn on(server: &str) -> Self {
        let name = unused_name();
        connect(server).await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let url = sibling(server, &name);
        endpoint_stats::store::migrate(&url).await.expect("the database is migrated");
        Self { url, name, server: server.to_owned() }
    }

    async fn copy_of(options: &str) -> Self {
        // Two copies at once would disturb each other: Postgres wants the template for itself.
        static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let postgres = postgres().await;
        let name = unused_name();
        let _turn = ONE_AT_A_TIME.lock().await;
        connect(&postgres.url).await.batch_execute(&format!("CREATE DATABASE {name} {options}")).await.unwrap();
        Self { url: sibling(&postgres.url, &name), name, server: postgres.url.clone() }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection of the test's own, past the service.
    pub async fn connect(&self) -> tokio_postgres::Client {
        connect(&self.url).await
    }

    /// One number.
    pub async fn number(&self, statement: &str) -> i64 {
        self.connect().await.query_one(statement, &[]).await.unwrap().get(0)
    }

    /// Runs statements.
    pub async fn execute(&self, statements: &str) {
        self.connect().await.batch_execute(statements).await.unwrap();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept for a look: {}", self.name);
            return;
        }
        let (server, name) = (self.server.clone(), self.name.clone());
        // A runtime of its own: the test's may be about to end, and cannot be waited on from here.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = connect(&server).await;
                let _ = client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
            });
        });
        let _ = dropping.join();
    }
}

static REDIS: OnceLock<(String, Child)> = OnceLock::new();

/// The address of a Redis database that nobody else uses.
pub fn redis_url() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (url, _) = REDIS.get_or_init(start_redis);
    format!("{url}/{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Starts a Redis that ends when this process does: its supervisor reads a pipe that only we hold open.
fn start_redis() -> (String, Child) {
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let script = format!(
        "redis-server --port {port} --bind 127.0.0.1 --save '' --appendonly no --databases 1000 --dir '{}' >/dev/null & \
         server=$!; cat >/dev/null; kill $server; wait $server",
        env!("CARGO_TARGET_TMPDIR")
    );
    let supervisor = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("a shell");
    let began = Instant::now();
    while ping(port).is_err() {
        assert!(began.elapsed() < Duration::from_secs(10), "redis-server does not answer; is it installed?");
        std::thread::yield_now();
    }
    (format!("redis://127.0.0.1:{port}"), supervisor)
}

fn ping(port: u16) -> std::io::Result<()> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 5];
    std::io::Read::read_exact(&mut stream, &mut answer)?;
    if &answer == b"+PONG" { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}
