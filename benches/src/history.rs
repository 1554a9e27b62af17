//! Months of rollups, made up where they lie: nobody waits for 41 billion requests.

use anyhow::Result;
use chrono::{DateTime, Utc};

use crate::programs::run;
use crate::servers::{Database, Program};
use crate::traffic::{ENDPOINTS, Endpoint};

/// What makes them.
const STATEMENTS: &str = include_str!("history.sql");

/// Requests a second, all the time.
pub(crate) const PER_SECOND: u64 = 1_000;

/// A database with the schema, all endpoints and no history yet.
///
/// # Errors
/// A program fails.
pub(crate) fn begin(program: &Program, database: &Database) -> Result<()> {
    run(&mut program.command(database, &["migrate"]))?;
    let endpoint = |number| {
        let Endpoint { service, method, route } = Endpoint::numbered(number);
        format!("('{service}', '{method}', '{route}')")
    };
    let endpoints = (0..ENDPOINTS).map(endpoint).collect::<Vec<_>>().join(",");
    database.execute(&format!("INSERT INTO endpoints (service, method, route) VALUES {endpoints}"))
}

/// Makes the history of so many days before `until`, and lets the service's own job refresh the daily view.
///
/// # Errors
/// A program fails.
pub(crate) fn reach_back(program: &Program, database: &Database, days: u32, until: DateTime<Utc>) -> Result<()> {
    let statements = program.folder.join("history.sql");
    std::fs::write(&statements, STATEMENTS)?;
    let mut psql = database.psql();
    psql.args(["-v", &format!("days={days}"), "-v", &format!("until={}", until.to_rfc3339())]);
    run(psql.arg("-f").arg(&statements))?;
    database.execute("VACUUM ANALYZE endpoint_hourly_stats")?;
    database.execute("VACUUM ANALYZE endpoint_minute_stats")?;
    program.job(database, "refresh")?;
    database.execute("CHECKPOINT")
}
