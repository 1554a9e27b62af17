//! Each row of the table: what is measured, what beside it, and how often.

mod batches;
mod beside;
mod cached;
mod disk;
mod growth;
mod import;
mod ingest;
mod refresh;
mod start;
mod uncached;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use chrono::Utc;
use endpoint_stats::embedded::EmbeddedPostgres;

use crate::history;
use crate::load::{Load, post};
use crate::plain::Plain;
use crate::servers::{Database, Program, Redis, Service, start_postgres};
use crate::table::Table;
use crate::{Pace, progress};

/// Connections of those who send records.
const SENDERS: u16 = 8;

/// What every row has at hand.
pub(crate) struct Bench {
    pace: Pace,
    only: Vec<u8>,
    folder: PathBuf,
    postgres: EmbeddedPostgres,
    redis: Redis,
    program: Program,
}

impl Bench {
    /// Starts the servers.
    ///
    /// # Errors
    /// One does not start.
    pub(crate) async fn begin(pace: Pace, program: Option<PathBuf>, only: Vec<u8>) -> Result<Self> {
        let here = std::env::current_exe()?;
        let beside = here.parent().unwrap_or(Path::new(".")).to_owned();
        let path = program.unwrap_or_else(|| beside.join("endpoint-stats")).canonicalize();
        let path = path.context("endpoint-stats is not built: cargo build --release")?;
        // As root, Postgres runs as another account, which must get in.
        let folder = beside.parent().unwrap_or(Path::new(".")).join("bench");
        std::fs::create_dir_all(&folder)?;
        let folder = folder.canonicalize()?;
        // What an earlier run left; its Postgres is taken over.
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() && entry.path().extension().is_some_and(|extension| extension == "copy") {
                std::fs::remove_file(entry.path())?;
            }
        }
        let postgres = start_postgres(&folder).await?;
        let redis = Redis::start()?;
        let program = Program { path, folder: folder.clone(), redis_url: redis.url() };
        Ok(Self { pace, only, folder, postgres, redis, program })
    }

    /// Ends them.
    ///
    /// # Errors
    /// Postgres does not end.
    pub(crate) async fn end(self) -> Result<()> {
        Ok(self.postgres.stop().await?)
    }

    fn wants(&self, row: u8) -> bool {
        self.only.is_empty() || self.only.contains(&row)
    }
}

/// A service over a history, and who asks it.
struct Served<'b> {
    bench: &'b Bench,
    database: Database,
    service: Service,
    /// For everything. Several, since one client may ask 100,000 times a second and no more.
    keys: Vec<String>,
}

impl Served<'_> {
    /// A load of `POST`s with these bodies.
    fn sending(&self, connections: u16, bodies: &[Vec<u8>]) -> Result<Load> {
        let bearer = format!("Bearer {}", self.keys[0]);
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/x-ndjson")];
        let requests = bodies.iter().map(|body| post("/api/v1/requests", &headers, body));
        Load::new(&self.bench.folder, "records", &self.service.address(), connections)?.write(requests)
    }
}

/// All of them, in an order that lets one build on the other.
///
/// # Errors
/// Something could not be measured at all.
pub(crate) async fn all(bench: &Bench, table: &mut Table) -> Result<()> {
    let plain = Plain::create(bench.postgres.url(), &bench.folder)?;
    let database = Database::create(bench.postgres.url(), "measured")?;
    history::begin(&bench.program, &database)?;
    progress(&format!("history of {} days", bench.pace.history_days[0]));
    history::reach_back(&bench.program, &database, bench.pace.history_days[0], Utc::now())?;
    let keys = (0..4).map(|_| bench.program.make_key(&database)).collect::<Result<_>>()?;

    let service = start::measure(bench, &database, table)?;
    let mut served = Served { bench, database, service, keys };
    let full_speed =
        if [1, 6, 7].iter().any(|row| bench.wants(*row)) { ingest::measure(&served, &plain, table)? } else { 0.0 };
    if bench.wants(2) {
        batches::measure(&served, &plain, table)?;
    }
    if bench.wants(3) {
        cached::measure(&served, table)?;
    }
    if bench.wants(4) || bench.wants(5) {
        progress(&format!("plain schema of {} rows", bench.pace.plain_rows));
        plain.fill(bench.pace.plain_rows)?;
    }
    if bench.wants(4) {
        uncached::measure(&served, &plain, table)?;
    }
    if bench.wants(6) {
        beside::measure(&served, full_speed, table)?;
    }
    if bench.wants(5) || bench.wants(11) {
        growth::measure(&mut served, &plain, table)?;
    }
    served.service.stop();
    if bench.wants(8) {
        disk::measure(bench, &plain, table)?;
    }
    if bench.wants(10) {
        import::measure(bench, table)?;
    }
    Ok(())
}
