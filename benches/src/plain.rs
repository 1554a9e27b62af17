//! The schema and the statements of a plain service: a row a request, indexes on what is asked for, and sums at the time of
//! asking.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use chrono::Utc;

use crate::programs::run;
use crate::servers::Database;
use crate::traffic::{ENDPOINTS, Endpoint, Names, Traffic};

/// The table; its indexes are [`INDEXES`].
const TABLE: &str = "
    CREATE TABLE plain (
        id serial PRIMARY KEY, endpoint text NOT NULL, timestamp timestamptz NOT NULL,
        response_time double precision NOT NULL, status integer NOT NULL
    )";

const INDEXES: &str = "
    CREATE INDEX ON plain (timestamp);
    CREATE INDEX ON plain (endpoint);
    CREATE INDEX ON plain (endpoint, timestamp)";

/// The top 10 of the table; `{percentiles}`, `{where}` and `{order}` are filled in.
const TOP: &str = "
    SELECT endpoint, COUNT(*) AS requests, COUNT(*) FILTER (WHERE status >= 500) AS errors, AVG(response_time), MIN(response_time),
        MAX(response_time) {percentiles}
    FROM plain {where} GROUP BY endpoint ORDER BY {order} DESC LIMIT 10";

/// What is added to it where percentiles are asked for.
const PERCENTILES: &str =
    ", percentile_cont(ARRAY[0.95, 0.5, 0.99]) WITHIN GROUP (ORDER BY response_time) AS percentiles";

/// The view of days, without percentiles.
const DAYS: &str = "
    CREATE MATERIALIZED VIEW IF NOT EXISTS plain_days AS
    SELECT endpoint, date_trunc('day', timestamp) AS day, COUNT(*) AS request_count, AVG(response_time) AS avg_response_time,
        MIN(response_time) AS min_response_time, MAX(response_time) AS max_response_time,
        COUNT(*) FILTER (WHERE status >= 500) AS error_count
    FROM plain GROUP BY endpoint, day
    WITH NO DATA";

/// The plain schema in a database of its own.
pub(crate) struct Plain {
    database: Database,
    folder: PathBuf,
}

impl Plain {
    /// Without rows.
    ///
    /// # Errors
    /// Postgres refuses.
    pub(crate) fn create(server: &str, folder: &Path) -> Result<Self> {
        let database = Database::create(server, "plain")?;
        let plain = Self { database, folder: folder.to_owned() };
        plain.empty()?;
        Ok(plain)
    }

    /// The table without rows, its indexes small again.
    ///
    /// # Errors
    /// Postgres refuses.
    pub(crate) fn empty(&self) -> Result<()> {
        self.database.execute(&format!("DROP TABLE IF EXISTS plain CASCADE; {TABLE}; {INDEXES}; CHECKPOINT"))
    }

    /// Rows a second of `COPY` from a text into the empty table.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn copy(&self, rows: usize) -> Result<f64> {
        self.empty()?;
        let (names, mut text) = (Names::all(), String::new());
        for request in Traffic::from(Utc::now(), 100_000.0).take(rows) {
            names.push_plain(&request, &mut text);
        }
        let file = self.folder.join("plain.copy");
        std::fs::write(&file, text)?;
        let copy = format!("\\copy plain (endpoint, timestamp, response_time, status) from '{}'", file.display());
        Ok(rows as f64 / self.database.time(&copy)?.as_secs_f64())
    }

    /// Rows a second of one `INSERT` a row, prepared, over one connection.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn insert(&self, load: Duration) -> Result<f64> {
        let script = self.folder.join("insert.sql");
        std::fs::write(
            &script,
            format!(
                "\\set n random_exponential(0, {}, 5)\n\
                 INSERT INTO plain (endpoint, timestamp, response_time, status)\n\
                 VALUES ('GET /api/v1/resource-' || :n || '/things/{{id}}/history', now(), 12.345, 200);\n",
                ENDPOINTS - 1
            ),
        )?;
        let mut pgbench = Command::new("pgbench");
        pgbench
            .args(["-n", "-c1", "-j1", "-M", "prepared", "-T", &load.as_secs().max(1).to_string(), "-f"])
            .arg(script);
        let told = run(pgbench.arg(self.database.url()))?;
        let line = told.lines().find(|line| line.starts_with("tps = ")).context("pgbench tells no rate")?;
        line.split(' ').nth(2).and_then(|rate| rate.parse().ok()).context("pgbench tells no rate")
    }

    /// Bytes of table and indexes, a row.
    ///
    /// # Errors
    /// Postgres refuses.
    pub(crate) fn bytes_a_row(&self) -> Result<f64> {
        self.database.number("SELECT pg_total_relation_size('plain')::float8 / COUNT(*) FROM plain")
    }

    /// Fills the table with requests that came in at 1,000 a second until now, the quick way: indexes last.
    ///
    /// # Errors
    /// Postgres refuses.
    pub(crate) fn fill(&self, rows: u64) -> Result<()> {
        let names = (0..ENDPOINTS).map(|number| format!("'{}'", Endpoint::numbered(number).plain()));
        let names = names.collect::<Vec<_>>().join(",");
        self.database.execute(&format!(
            "DROP TABLE IF EXISTS plain CASCADE; {TABLE};
             INSERT INTO plain (endpoint, timestamp, response_time, status)
             SELECT (ARRAY[{names}])[1 + floor({ENDPOINTS} * power(random(), 3))::integer],
                 now() - ({rows} - n) * interval '1 millisecond', exp(3 + 0.8 * sqrt(-2 * ln(1 - random())) * cos(6.2832 * random())),
                 CASE WHEN random() < 0.98 THEN 200 ELSE 500 END
             FROM generate_series(1, {rows}) AS n;
             {INDEXES};"
        ))?;
        self.database.execute("VACUUM ANALYZE plain")
    }

    /// How long the top 10 take over the last `hours` or over all: by requests without percentiles, or by p95 with the three
    /// that our answers tell in any order.
    ///
    /// # Errors
    /// Postgres refuses.
    pub(crate) fn top(&self, hours: Option<u32>, by_p95: bool) -> Result<Duration> {
        let condition = hours.map(|hours| format!("WHERE timestamp >= now() - interval '{hours} hours'"));
        let statement = TOP
            .replace("{percentiles}", if by_p95 { PERCENTILES } else { "" })
            .replace("{where}", &condition.unwrap_or_default())
            .replace("{order}", if by_p95 { "percentiles" } else { "requests" });
        self.database.time(&statement)
    }

    /// How long it takes to refresh a materialized view with a row an endpoint and day.
    ///
    /// # Errors
    /// Postgres refuses.
    pub(crate) fn refresh(&self) -> Result<Duration> {
        self.database.execute(DAYS)?;
        self.database.time("REFRESH MATERIALIZED VIEW plain_days")
    }
}
