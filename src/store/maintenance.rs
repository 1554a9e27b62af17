//! What maintenance does to the database: pieces, each a transaction or a statement of its own, over the session of a run.
//!
//! Fold and refresh share the lock `rollups`: a refresh that did not see a fold's change would otherwise clear the mark that
//! the fold just set.

use std::sync::PoisonError;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::{ANSWER, Horizons, JobSession, State, Store, StoreError, sql, within};

/// The lock under which rollups are written and the view is refreshed.
const ROLLUPS_LOCK: &str = "rollups";

/// Room that the deltas keep on disk: what a few folds of a busy service move. To read it takes some milliseconds.
const DELTAS_BYTES_KEPT: i64 = 16 << 20;

impl JobSession {
    /// Moves at most `limit` deltas into minutes and hours; marks days before `today` that changed as stale. Returns how many
    /// it moved. Waits for a refresh that is under way.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was moved.
    pub async fn fold(&mut self, today: NaiveDate, limit: u32) -> Result<u64, StoreError> {
        let (connection, patience) = self.connection();
        let mut transaction = within(ANSWER, connection.begin()).await?;
        within(patience, sqlx::query(sql::LOCK.sql).bind(ROLLUPS_LOCK).execute(&mut *transaction)).await?;
        let fold = sqlx::query_scalar(sql::FOLD.sql).bind(today).bind(i64::from(limit));
        let moved: i64 = within(patience, fold.fetch_one(&mut *transaction)).await?;
        within(ANSWER, transaction.commit()).await?;
        Ok(moved.unsigned_abs())
    }

    /// After a fold, where it moved many, makes the room of deltas usable again; where it moved few, gives back what many once took.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tidy_deltas(&mut self, were_many: bool) -> Result<(), StoreError> {
        let (connection, patience) = self.connection();
        let bytes: i64 = within(ANSWER, sqlx::query_scalar(sql::DELTAS_BYTES.sql).fetch_one(&mut *connection)).await?;
        let statement = match were_many {
            true => sql::VACUUM_DELTAS,
            false if bytes > DELTAS_BYTES_KEPT => sql::SHRINK_DELTAS,
            false => return Ok(()),
        };
        within(patience, sqlx::query(statement.sql).execute(connection)).await.map(drop)
    }

    /// Refreshes the daily view if a day before `today` has closed since it last was, or is stale; with `always`, in any
    /// case. Returns how many days were stale, `None` if there was nothing to do. Waits for a fold that is under way.
    ///
    /// # Errors
    /// [`StoreError`]; the view is as it was.
    pub async fn refresh(&mut self, today: NaiveDate, always: bool) -> Result<Option<u64>, StoreError> {
        let (connection, patience) = self.connection();
        let mut transaction = within(ANSWER, connection.begin()).await?;
        within(patience, sqlx::query(sql::LOCK.sql).bind(ROLLUPS_LOCK).execute(&mut *transaction)).await?;
        let due = sqlx::query_scalar(sql::REFRESH_DUE.sql).bind(today);
        let due = always || within(ANSWER, due.fetch_one(&mut *transaction)).await?;
        let mut stale = None;
        if due {
            // A view that was never filled cannot be refreshed beside its readers, and has none.
            let filled =
                within(ANSWER, sqlx::query_scalar(sql::VIEW_IS_FILLED.sql).fetch_one(&mut *transaction)).await?;
            let refresh = if filled { sql::REFRESH_VIEW } else { sql::FILL_VIEW };
            // Its snapshot is taken after the lock, so it sees every fold; and what it saw is written down with it.
            within(patience, sqlx::query(refresh.sql).execute(&mut *transaction)).await?;
            let seen = sqlx::query_scalar::<_, i64>(sql::REFRESH_SEEN.sql).bind(today);
            stale = Some(within(patience, seen.fetch_one(&mut *transaction)).await?.unsigned_abs());
        }
        within(ANSWER, transaction.commit()).await?;
        Ok(stale)
    }

    /// Makes the partitions of `days`. Returns how many there were to make.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was made.
    pub async fn make_days(&mut self, days: &[NaiveDate]) -> Result<u64, StoreError> {
        let (connection, patience) = self.connection();
        let make = sqlx::query_scalar::<_, i64>(sql::ENSURE_DAYS.sql).bind(days);
        Ok(within(patience, make.fetch_one(connection)).await?.unsigned_abs())
    }

    /// The days before `closed` that lack their btree (endpoint_id, minute), oldest first; one that has the (endpoint_id,
    /// timestamp) of an earlier version lacks none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn days_without_btree(&mut self, closed: NaiveDate) -> Result<Vec<NaiveDate>, StoreError> {
        let (connection, _) = self.connection();
        within(ANSWER, sqlx::query_scalar(sql::DAYS_WITHOUT_BTREE.sql).bind(closed).fetch_all(connection)).await
    }

    /// Builds the btree of a day.
    ///
    /// # Errors
    /// [`StoreError`]; what is left of the index is not used, and cleared by the next try.
    pub async fn build_btree(&mut self, day: NaiveDate) -> Result<(), StoreError> {
        let (connection, patience) = self.connection();
        let ddl = within(ANSWER, sqlx::query(sql::BTREE_DDL.sql).bind(day).fetch_one(&mut *connection)).await?;
        // Building waits for every transaction that is older, a long `verify` too, and holds nobody up meanwhile.
        within(ANSWER, sqlx::query("SET lock_timeout = 0").execute(&mut *connection)).await?;
        for column in ["clear", "clear_older", "build"] {
            // Made by Postgres' own format() from a date.
            let statement: String = ddl.try_get(column)?;
            within(patience, sqlx::query(AssertSqlSafe(statement)).execute(&mut *connection)).await?;
        }
        within(ANSWER, sqlx::query("RESET lock_timeout").execute(&mut *connection)).await?;
        Ok(())
    }
}

/// What holds for all who use the database.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// From when on data is kept.
    pub horizons: Horizons,
    /// Whether a service has said so.
    pub is_served: bool,
    /// The database's time.
    pub database_time: DateTime<Utc>,
}

impl Store {
    /// Says from when on minutes, raw requests and hours are kept (`None`: no change), `as_service` or as somebody who only
    /// comes by, and reads back what holds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn advance_horizons(&self, wanted: Horizons, as_service: bool) -> Result<Held, StoreError> {
        let mut lease = self.lease().await?;
        let query = sqlx::query(sql::ADVANCE_STATE.sql)
            .bind(wanted.minutes_since)
            .bind(wanted.raw_since)
            .bind(wanted.hours_since)
            .bind(as_service);
        let row = within(ANSWER, query.fetch_one(lease.connection())).await?;
        lease.give_back();
        let horizons = Horizons {
            minutes_since: row.try_get("minutes_since")?,
            raw_since: row.try_get("raw_since")?,
            hours_since: row.try_get("hours_since")?,
        };
        let (generation, installation) = (row.try_get("data_generation")?, row.try_get("installation")?);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // Of two looks at once the older may come back later.
        *state = State { horizons, generation: state.generation.max(generation), installation };
        Ok(Held { horizons, is_served: row.try_get("is_served")?, database_time: row.try_get("database_time")? })
    }
}
