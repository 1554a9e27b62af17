//! How expired data goes: whole days of raw requests by their table, rows of rollups and of bookkeeping in pieces.
//!
//! What is expired is decided in each statement, by the horizons held in the database, or by an instant.
//!
//! A day goes in three steps, each a transaction of its own: it is marked by a comment, detached, and dropped. Detaching
//! `CONCURRENTLY` waits for every transaction that uses `requests`, and holds nobody up meanwhile; dropping takes a lock that
//! keeps everybody out, of a table that nobody uses any more. A step that was cut off is found by what it left: Postgres
//! says of a partition that its detaching is pending, and a table with the mark that is no partition waits to be dropped.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Row as _};

use super::{ANSWER, JobSession, StoreError, sql, within};

/// What the keys of `import` begin with. They never expire: the same file, imported again after months, must not count twice.
pub const IMPORT_KEYS: &str = "import:";

/// What the keys of `demo` begin with. They never expire either.
pub const DEMO_KEYS: &str = "demo:";

/// The comment on a day that is being dropped.
const MARK: &str = "endpoint-stats is dropping this day: it is older than RETENTION_RAW.";

/// For the session: `FINALIZE` waits for every older statement with a lock in hand that whoever makes a day needs.
const HURRY: &str = "SET lock_timeout = '200ms'";

/// Longest `VACUUM` of a rollup: it reads the pages that changed and the indexes whole.
const VACUUM: Duration = Duration::from_secs(20 * 60);

/// For the session: Postgres itself ends a `VACUUM` a little before [`VACUUM`] is over.
const LET_VACUUM: &str = "SET statement_timeout = '1195s'";

/// A rollup whose old rows are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rollup {
    /// `endpoint_minute_stats`.
    Minutes,
    /// `endpoint_hourly_stats`.
    Hours,
}

/// A day of `requests` that is no longer kept.
#[derive(Debug, Clone)]
pub struct ExpiredDay {
    /// Name of its table, which says the day.
    pub name: String,
    attached: bool,
    pending: bool,
    mark: String,
    detach: String,
    finalize: String,
    remove: String,
}

/// Bytes on disk, indexes included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptBytes {
    /// Of all days of raw requests.
    pub requests: u64,
    /// Of the minutes.
    pub minutes: u64,
    /// Of the hours.
    pub hours: u64,
}

impl KeptBytes {
    /// All of it.
    #[must_use]
    pub fn total(self) -> u64 {
        self.requests + self.minutes + self.hours
    }
}

impl JobSession {
    /// The next day to drop: one whose dropping was begun before the others, then the oldest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expired_day(&mut self) -> Result<Option<ExpiredDay>, StoreError> {
        let (connection, _) = self.connection();
        let found = sqlx::query(sql::EXPIRED_DAY.sql).bind(MARK).fetch_optional(connection);
        let Some(row) = within(ANSWER, found).await? else { return Ok(None) };
        Ok(Some(ExpiredDay {
            name: row.try_get("name")?,
            attached: row.try_get("attached")?,
            pending: row.try_get("pending")?,
            mark: row.try_get("mark")?,
            detach: row.try_get("detach")?,
            finalize: row.try_get("finalize")?,
            remove: row.try_get("remove")?,
        }))
    }

    /// Drops a day, or says that somebody uses `requests` for longer than is waited: it is tried again from where it stands
    /// then, so the day is to be asked for anew.
    ///
    /// # Errors
    /// [`StoreError`]; likewise.
    pub async fn drop_day(&mut self, day: &ExpiredDay) -> Result<bool, StoreError> {
        let steps = [
            day.attached.then_some(&day.mark),
            day.attached.then_some(if day.pending { &day.finalize } else { &day.detach }),
            Some(&day.remove),
        ];
        let (connection, patience) = self.connection();
        if day.pending {
            within(ANSWER, sqlx::query(HURRY).execute(&mut *connection)).await?;
        }
        let mut dropped = true;
        for step in steps.into_iter().flatten() {
            // Made by Postgres' own format() from the names of tables.
            match within(patience, sqlx::query(AssertSqlSafe(step.clone())).execute(&mut *connection)).await {
                Err(error) if error.is_lock_timeout() => {
                    dropped = false;
                    break;
                }
                done => done?,
            };
        }
        within(ANSWER, sqlx::query("RESET lock_timeout").execute(&mut *connection)).await?;
        Ok(dropped)
    }

    /// Deletes at most `limit` rows of a rollup that are no longer told, from `from` on. Returns how many, and up to where.
    ///
    /// # Errors
    /// [`StoreError`]; none was deleted.
    pub async fn delete_expired(
        &mut self,
        rollup: Rollup,
        from: Option<DateTime<Utc>>,
        limit: u32,
    ) -> Result<(u64, Option<DateTime<Utc>>), StoreError> {
        let statement = match rollup {
            Rollup::Minutes => sql::DELETE_MINUTES,
            Rollup::Hours => sql::DELETE_HOURS,
        };
        let (connection, patience) = self.connection();
        let delete = sqlx::query(statement.sql).bind(from).bind(i64::from(limit));
        let row = within(patience, delete.fetch_one(connection)).await?;
        Ok((row.try_get::<i64, _>("deleted")?.unsigned_abs(), row.try_get("through")?))
    }

    /// Makes the room of a rollup's deleted rows usable again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn vacuum(&mut self, rollup: Rollup) -> Result<(), StoreError> {
        let statement = match rollup {
            Rollup::Minutes => sql::VACUUM_MINUTES,
            Rollup::Hours => sql::VACUUM_HOURS,
        };
        let (connection, _) = self.connection();
        within(ANSWER, sqlx::query(LET_VACUUM).execute(&mut *connection)).await?;
        within(VACUUM, sqlx::query(statement.sql).execute(&mut *connection)).await?;
        within(ANSWER, sqlx::query("RESET statement_timeout").execute(&mut *connection)).await?;
        Ok(())
    }

    /// How much room the data takes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn kept_bytes(&mut self) -> Result<KeptBytes, StoreError> {
        let (connection, patience) = self.connection();
        let row = within(patience, sqlx::query(sql::KEPT_BYTES.sql).bind(MARK).fetch_one(connection)).await?;
        let bytes = |column| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(column)?.unsigned_abs());
        Ok(KeptBytes { requests: bytes("requests")?, minutes: bytes("minutes")?, hours: bytes("hours")? })
    }

    /// Deletes at most `limit` idempotency keys that were received before `before`. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`]; none was deleted.
    pub async fn delete_keys(&mut self, before: DateTime<Utc>, limit: u32) -> Result<u64, StoreError> {
        let (connection, patience) = self.connection();
        let delete = sqlx::query_scalar::<_, i64>(sql::DELETE_KEYS.sql).bind(before).bind([IMPORT_KEYS, DEMO_KEYS]);
        Ok(within(patience, delete.bind(i64::from(limit)).fetch_one(connection)).await?.unsigned_abs())
    }

    /// Deletes at most `limit` runs of jobs that were due before `before`, never the last of a job. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`]; none was deleted.
    pub async fn delete_job_runs(&mut self, before: DateTime<Utc>, limit: u32) -> Result<u64, StoreError> {
        let (connection, patience) = self.connection();
        let delete = sqlx::query_scalar::<_, i64>(sql::DELETE_JOB_RUNS.sql).bind(before).bind(i64::from(limit));
        Ok(within(patience, delete.fetch_one(connection)).await?.unsigned_abs())
    }
}
