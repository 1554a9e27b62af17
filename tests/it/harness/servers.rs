//! Postgres and Redis for a whole run of tests.

use std::io::{BufRead as _, BufReader, Write as _};
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
                    let server = start_postgres("postgres", 300, Durability::Throwaway, &[]).await;
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
pub async fn start_postgres(
    name: &str,
    max_connections: u16,
    durability: Durability,
    settings: &[(&str, &str)],
) -> EmbeddedPostgres {
    let usual = [("shared_buffers", "64MB"), ("shared_preload_libraries", "pg_stat_statements")];
    let settings: Vec<_> =
        usual.iter().chain(settings).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    // The same folder from run to run, so that a start takes no time; another one where two runs meet.
    let folders = (0..8).map(|n| folder.join(format!("{name}-{n}")));
    for data_dir in folders {
        let options = Options { data_dir, durability, max_connections, settings: settings.clone() };
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

/// A database that lets nobody in, until it is opened again: Postgres is away, as far as a service can tell.
pub struct Shut {
    admin: tokio_postgres::Client,
    name: String,
}

impl Database {
    /// Ends every other connection and lets nobody in any more, not even a superuser.
    pub async fn shut(&self) -> Shut {
        let shut = Shut { admin: self.connect().await, name: self.name.clone() };
        shut.allow("false").await;
        let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                      WHERE datname = current_database() AND pid <> pg_backend_pid()";
        shut.admin.query_one(others, &[]).await.unwrap();
        shut
    }
}

impl Shut {
    pub async fn open(self) {
        self.allow("true").await;
    }

    async fn allow(&self, whether: &str) {
        let statement = format!("UPDATE pg_database SET datallowconn = {whether} WHERE datname = '{}'", self.name);
        self.admin.batch_execute(&statement).await.unwrap();
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

static REDIS: OnceLock<PrivateRedis> = OnceLock::new();

/// The address of a Redis database that nobody else uses.
pub fn redis_url() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let redis = REDIS.get_or_init(PrivateRedis::start);
    format!("{}/{}", redis.url(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// A Redis of one's own, to be stopped or spoilt. It ends with this, and with the process in any case: its supervisor reads a
/// pipe that only we hold open.
pub struct PrivateRedis {
    port: u16,
    pid: String,
    supervisor: Child,
}

impl PrivateRedis {
    pub fn start() -> Self {
        Self::at(free_port(), &[])
    }

    /// A node of a cluster that is none yet.
    pub fn node() -> Self {
        // It also listens ten thousand ports further on.
        let port = std::iter::repeat_with(free_port).find(|port| *port < 55_000).unwrap();
        Self::at(port, &["--cluster-enabled yes", &format!("--cluster-config-file nodes-{port}.conf")])
    }

    /// Makes three nodes a cluster.
    pub fn join(addresses: &[String]) {
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(addresses).arg("--cluster-yes");
        let created = create.output().expect("redis-cli");
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
    }

    /// On this port, with more arguments of `redis-server`.
    pub fn at(port: u16, arguments: &[&str]) -> Self {
        Self::run("", port, arguments)
    }

    /// One that compares texts as English dictionaries do, as where the system's language is set; `None` where this machine
    /// does not know how they do.
    pub fn english() -> Option<Self> {
        let locales = concat!(env!("CARGO_TARGET_TMPDIR"), "/locales");
        std::fs::create_dir_all(locales).expect("a directory");
        let english = format!("{locales}/en_US.UTF-8");
        let made = Command::new("localedef").args(["-i", "en_US", "-f", "UTF-8", &english]).output();
        made.is_ok_and(|made| made.status.success())
            .then(|| Self::run(&format!("LOCPATH='{locales}' LC_ALL=en_US.UTF-8"), free_port(), &[]))
    }

    fn run(environment: &str, port: u16, arguments: &[&str]) -> Self {
        let script = format!(
            "{environment} redis-server --port {port} --bind 127.0.0.1 --save '' --appendonly no --databases 1000 --dir '{}' {} \
             </dev/null >/dev/null & exec 2>/dev/null; server=$!; echo $server; cat >/dev/null; kill -KILL $server; wait $server",
            env!("CARGO_TARGET_TMPDIR"),
            arguments.join(" ")
        );
        let mut supervisor = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("a shell");
        let mut pid = String::new();
        let mut told = BufReader::new(supervisor.stdout.take().unwrap());
        told.read_line(&mut pid).expect("the shell tells the number of its process");
        let redis = Self { port, pid: pid.trim().to_owned(), supervisor };
        let began = Instant::now();
        while redis.ping().is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "redis-server does not answer; is it installed?");
            std::thread::yield_now();
        }
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Sends it a signal, such as STOP.
    pub fn signal(&self, signal: &str) {
        super::process::signal(signal, &self.pid);
    }

    fn ping(&self) -> std::io::Result<()> {
        let mut stream = std::net::TcpStream::connect(self.address())?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        std::io::Read::read_exact(&mut stream, &mut answer)?;
        if &answer == b"+PONG" { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
    }
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        // Closes the pipe, upon which the supervisor ends the server and itself.
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
    }
}
