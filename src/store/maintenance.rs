//! What maintenance does to the database, each piece one transaction under its advisory lock.
//!
//! Fold and refresh share the lock `rollups`: a refresh that did not see a fold's change would otherwise clear the mark that
//! the fold just set.

use std::sync::PoisonError;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use super::{ANSWER, Horizons, State, Store, StoreError, sql, within};

/// Longest wait for one piece of maintenance.
const PIECE: Duration = Duration::from_secs(10 * 60);

/// A transaction with the time that maintenance needs: statements that Postgres itself ends a little before [`PIECE`] is
/// over, and little patience with table locks, since whoever waits for one makes everybody behind wait too.
const BEGIN_PIECE: &str = "BEGIN; SET LOCAL statement_timeout = '595s'; SET LOCAL lock_timeout = '5s'";

/// The same patience outside a transaction.
const LITTLE_PATIENCE: &str = "SET lock_timeout = '5s'";

/// Longest wait for one piece of a fold: a hundred times what it takes. A line that went dead in it must not keep this
/// replica from folding for long.
const FOLD: Duration = Duration::from_secs(25);

/// Its transaction.
const BEGIN_FOLD: &str = "BEGIN; SET LOCAL statement_timeout = '20s'; SET LOCAL lock_timeout = '5s'";

/// The lock under which rollups are written and the view is refreshed.
const ROLLUPS_LOCK: &str = "rollups";

/// The lock under which days are made and indexed.
const PARTITIONS_LOCK: &str = "partitions";

/// What came of trying to do something that one replica at a time may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt<T> {
    /// It was done.
    Performed(T),
    /// Another replica is at it.
    Skipped,
}

/// What one piece of a fold moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoldedDeltas(pub u64);

impl Store {
    /// Moves at most `limit` deltas into minutes and hours; marks days before `today` that changed as stale.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was moved.
    pub async fn fold(&self, today: NaiveDate, limit: u32) -> Result<Attempt<FoldedDeltas>, StoreError> {
        let mut lease = self.lease().await?;
        let mut transaction = within(ANSWER, lease.connection().begin_with(BEGIN_FOLD)).await?;
        if !try_lock(&mut transaction, ROLLUPS_LOCK).await? {
            return Ok(Attempt::Skipped);
        }
        let moved: i64 = within(
            FOLD,
            sqlx::query_scalar(sql::FOLD.sql).bind(today).bind(i64::from(limit)).fetch_one(&mut *transaction),
        )
        .await?;
        within(ANSWER, transaction.commit()).await?;
        lease.give_back();
        Ok(Attempt::Performed(FoldedDeltas(moved.unsigned_abs())))
    }

    /// Refreshes the daily view if a day before `today` has closed since it last was, or is stale; with `always`, in any
    /// case. Returns whether it did.
    ///
    /// # Errors
    /// [`StoreError`]; the view is as it was.
    pub async fn refresh(&self, today: NaiveDate, always: bool) -> Result<Attempt<bool>, StoreError> {
        let mut lease = self.lease().await?;
        let mut transaction = within(ANSWER, lease.connection().begin_with(BEGIN_PIECE)).await?;
        if !try_lock(&mut transaction, ROLLUPS_LOCK).await? {
            return Ok(Attempt::Skipped);
        }
        let due = always
            || within(ANSWER, sqlx::query_scalar(sql::REFRESH_DUE.sql).bind(today).fetch_one(&mut *transaction))
                .await?;
        if due {
            // The refresh takes its snapshot after the lock, so it sees every fold; and what it saw is written down with it.
            within(PIECE, sqlx::query(sql::REFRESH_VIEW.sql).execute(&mut *transaction)).await?;
            within(PIECE, sqlx::query(sql::REFRESH_SEEN.sql).bind(today).execute(&mut *transaction)).await?;
        }
        within(ANSWER, transaction.commit()).await?;
        lease.give_back();
        Ok(Attempt::Performed(due))
    }

    /// Makes the partitions of `days`, and on every day before `closed` that lacks it the btree (endpoint_id, timestamp).
    /// Returns how many days were made and how many indexed.
    ///
    /// # Errors
    /// [`StoreError`]; what was made stays.
    pub async fn prepare_days(&self, days: &[NaiveDate], closed: NaiveDate) -> Result<Attempt<(u64, u64)>, StoreError> {
        // A session lock, since CREATE INDEX CONCURRENTLY runs in no transaction; the lease is never given back, so the
        // connection closes and the lock with it, however this ends.
        let mut lease = self.lease().await?;
        let connection = lease.connection();
        let locked: bool = within(
            ANSWER,
            sqlx::query_scalar(sql::TRY_SESSION_LOCK.sql).bind(PARTITIONS_LOCK).fetch_one(&mut *connection),
        )
        .await?;
        if !locked {
            return Ok(Attempt::Skipped);
        }
        for setting in ["SET statement_timeout = '595s'", LITTLE_PATIENCE] {
            within(ANSWER, sqlx::query(setting).execute(&mut *connection)).await?;
        }
        let made: i64 =
            within(PIECE, sqlx::query_scalar(sql::ENSURE_DAYS.sql).bind(days).fetch_one(&mut *connection)).await?;
        let bare: Vec<NaiveDate> =
            within(ANSWER, sqlx::query_scalar(sql::DAYS_WITHOUT_BTREE.sql).bind(closed).fetch_all(&mut *connection))
                .await?;
        // Building waits for every transaction that is older, a long `verify` too, and holds nobody up meanwhile.
        within(ANSWER, sqlx::query("SET lock_timeout = 0").execute(&mut *connection)).await?;
        for day in &bare {
            let ddl = within(ANSWER, sqlx::query(sql::BTREE_DDL.sql).bind(day).fetch_one(&mut *connection)).await?;
            for column in ["clear", "build"] {
                // Made by Postgres' own format() from a date.
                let statement: String = ddl.try_get(column)?;
                within(PIECE, sqlx::query(AssertSqlSafe(statement)).execute(&mut *connection)).await?;
            }
        }
        Ok(Attempt::Performed((made.unsigned_abs(), bare.len() as u64)))
    }

    /// Says from when on minutes and raw requests are kept (`None`: no change) and reads back what holds, together with the
    /// database's time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn advance_horizons(&self, wanted: Horizons) -> Result<(Horizons, DateTime<Utc>), StoreError> {
        let mut lease = self.lease().await?;
        let row = within(
            ANSWER,
            sqlx::query(sql::ADVANCE_STATE.sql)
                .bind(wanted.minutes_since)
                .bind(wanted.raw_since)
                .fetch_one(lease.connection()),
        )
        .await?;
        lease.give_back();
        let held = Horizons { minutes_since: row.try_get("minutes_since")?, raw_since: row.try_get("raw_since")? };
        let (generation, installation) = (row.try_get("data_generation")?, row.try_get("installation")?);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // Of two looks at once the older may come back later.
        *state = State { horizons: held, generation: state.generation.max(generation), installation };
        Ok((held, row.try_get("database_time")?))
    }
}

/// Takes the lock until the end of the transaction, unless another has it.
async fn try_lock(transaction: &mut PgConnection, name: &str) -> Result<bool, StoreError> {
    within(ANSWER, sqlx::query_scalar(sql::TRY_LOCK.sql).bind(name).fetch_one(&mut *transaction)).await
}
