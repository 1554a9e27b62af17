//! Postgres, Redis, the service: begun here, ended here.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use endpoint_stats::embedded::{Durability, EmbeddedPostgres, Options};

use crate::programs::run;

/// Longest wait for a program to be ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The private Postgres, with Postgres' own settings: a commit waits for the disk.
///
/// # Errors
/// It does not start.
pub(crate) async fn start_postgres(folder: &Path) -> Result<EmbeddedPostgres> {
    let options = Options {
        data_dir: folder.join("postgres"),
        durability: Durability::Kept,
        max_connections: 100,
        settings: Vec::new(),
    };
    Ok(EmbeddedPostgres::start(options).await?)
}

/// One database of a server.
pub(crate) struct Database {
    url: String,
}

impl Database {
    /// An empty one in the place of any that is there.
    ///
    /// # Errors
    /// Postgres refuses.
    pub(crate) fn create(server: &str, name: &str) -> Result<Self> {
        let admin = Self { url: server.to_owned() };
        admin.execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))?;
        admin.execute(&format!("CREATE DATABASE {name}"))?;
        let mut url = url::Url::parse(server)?;
        url.set_path(name);
        Ok(Self { url: url.to_string() })
    }

    /// Its address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A `psql` for it that stops at the first error.
    pub(crate) fn psql(&self) -> Command {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &self.url]).env("PGOPTIONS", "-c timezone=UTC");
        psql
    }

    /// Runs statements.
    ///
    /// # Errors
    /// Postgres refuses one.
    pub(crate) fn execute(&self, statements: &str) -> Result<()> {
        run(self.psql().args(["-c", statements])).map(drop)
    }

    /// One number.
    ///
    /// # Errors
    /// Postgres refuses, or says something else.
    pub(crate) fn number(&self, statement: &str) -> Result<f64> {
        let text = run(self.psql().args(["-At", "-c", statement]))?;
        text.trim().parse().with_context(|| format!("{statement}: {text}"))
    }

    /// How long a command of psql takes, as psql tells: without its own start.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn time(&self, command: &str) -> Result<Duration> {
        let told = run(self.psql().args(["-c", "\\timing on", "-c", command]))?;
        let line = told.lines().rev().find_map(|line| line.strip_prefix("Time: ")).context("psql tells no time")?;
        let ms: f64 = line.split(' ').next().unwrap_or_default().parse().context("psql tells no time")?;
        Ok(Duration::from_secs_f64(ms / 1_000.0))
    }
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// A child that is ended with this.
struct Process(Child);

impl Process {
    /// Asks it to end, and waits until it has.
    fn stop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(None)) {
            return;
        }
        let pid = self.0.id().to_string();
        if Command::new("kill").args(["-TERM", &pid]).status().is_ok_and(|status| status.success()) {
            let began = Instant::now();
            while began.elapsed() < READY_WITHIN {
                if !matches!(self.0.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A private Redis.
pub(crate) struct Redis {
    port: u16,
    _process: Process,
}

impl Redis {
    /// Starts it; nothing is written to disk.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn start() -> Result<Self> {
        let port = free_port()?;
        let mut redis = Command::new("redis-server");
        redis.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        let process = Process(redis.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("redis-server")?);
        let redis = Self { port, _process: process };
        let began = Instant::now();
        while redis.say(&[b"PING"]).is_err() {
            ensure!(began.elapsed() < READY_WITHIN, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(redis)
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// One command.
    ///
    /// # Errors
    /// It is not taken.
    pub(crate) fn say(&self, words: &[&[u8]]) -> Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            command.extend_from_slice(word);
            command.extend_from_slice(b"\r\n");
        }
        stream.write_all(&command)?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        ensure!(answer == *b"+", "redis-server does not take it");
        Ok(())
    }
}

/// How a service is started.
pub(crate) struct Program {
    /// The program.
    pub(crate) path: PathBuf,
    /// Where its log goes.
    pub(crate) folder: PathBuf,
    /// The Redis it uses.
    pub(crate) redis_url: String,
}

impl Program {
    /// One of its commands, for this database.
    pub(crate) fn command(&self, database: &Database, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(arguments).env("DATABASE_URL", database.url()).stdin(Stdio::null());
        command
    }

    /// Starts `serve` as a user would, on a free port, and returns once it is ready.
    ///
    /// # Errors
    /// It is not ready within half a minute.
    pub(crate) fn serve(&self, database: &Database) -> Result<Service> {
        let port = free_port()?;
        let mut serve = self.command(database, &["serve"]);
        serve.env("LISTEN", format!("127.0.0.1:{port}")).env("REDIS_URL", &self.redis_url);
        // The most there is: what is measured comes from one client, or from four.
        serve.envs([("RATE_LIMIT_READ", "100000"), ("RATE_LIMIT_INGEST", "100000")]);
        // The longest history is longer than what is kept by default.
        serve.env("RETENTION_HOURS", "0");
        let log = self.folder.join("service.log");
        serve.stdout(File::create(&log)?).stderr(Stdio::inherit());
        let began = Instant::now();
        let process = Process(serve.spawn().with_context(|| format!("{}", self.path.display()))?);
        let mut service = Service { port, process, ready_after: Duration::ZERO };
        while !service.is_ready() {
            ensure!(began.elapsed() < READY_WITHIN, "the service is not ready; see {}", log.display());
            std::thread::sleep(Duration::from_micros(200));
        }
        service.ready_after = began.elapsed();
        Ok(service)
    }

    /// A key for everything.
    ///
    /// # Errors
    /// The command fails.
    pub(crate) fn make_key(&self, database: &Database) -> Result<String> {
        Ok(run(&mut self.command(database, &["keys", "create", "--scope", "admin"]))?.trim().to_owned())
    }

    /// Runs a job, and returns how long it took as it says itself.
    ///
    /// # Errors
    /// It fails, or another is at it for half a minute.
    pub(crate) fn job(&self, database: &Database, name: &str) -> Result<Duration> {
        let began = Instant::now();
        loop {
            match run(&mut self.command(database, &["job", "run", name])) {
                Ok(_) => break,
                // The schedule has come first.
                Err(_) if began.elapsed() < READY_WITHIN => std::thread::sleep(Duration::from_millis(200)),
                Err(error) => return Err(error),
            }
        }
        let last = format!("SELECT duration_ms FROM job_runs WHERE job = '{name}' ORDER BY started_at DESC LIMIT 1");
        Ok(Duration::from_secs_f64(database.number(&last)? / 1_000.0))
    }
}

/// A running service.
pub(crate) struct Service {
    port: u16,
    process: Process,
    /// From its start until it said that it is ready.
    pub(crate) ready_after: Duration,
}

impl Service {
    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn is_ready(&self) -> bool {
        exchange(self.port, &crate::load::get("/readyz", &[("Connection", "close")]))
            .is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
    }

    /// The most memory it has had resident, MiB.
    ///
    /// # Errors
    /// It is gone.
    pub(crate) fn peak_memory(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kb: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kb / 1_024.0)
    }

    /// Asks it, and returns the whole answer as it came over the line.
    ///
    /// # Errors
    /// It does not answer 200.
    pub(crate) fn ask(&self, target: &str, key: &str) -> Result<Vec<u8>> {
        let bearer = format!("Bearer {key}");
        let request = crate::load::get(target, &[("Authorization", &bearer), ("Connection", "close")]);
        let answer = exchange(self.port, &request)?;
        if !answer.starts_with(b"HTTP/1.1 200") {
            bail!("{target}: {}", String::from_utf8_lossy(&answer));
        }
        Ok(answer)
    }

    /// Ends it, its work done.
    pub(crate) fn stop(mut self) {
        self.process.stop();
    }
}

/// This program as a bare actix handler.
pub(crate) struct Bare {
    port: u16,
    _process: Process,
}

impl Bare {
    /// Serves the answer in a file.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn start(answer: &Path) -> Result<Self> {
        let port = free_port()?;
        let mut bare = Command::new(std::env::current_exe()?);
        bare.arg("bare-actix").arg(answer).args(["--port", &port.to_string()]);
        let process = Process(bare.stdin(Stdio::null()).spawn()?);
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(began.elapsed() < READY_WITHIN, "the bare handler does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Self { port, _process: process })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn exchange(port: u16, request: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(READY_WITHIN))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}
