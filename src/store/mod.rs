//! Postgres: the only module that speaks to it.
//!
//! Owns: connections, statements, transactions, and the sorting of what goes wrong into [`StoreError`]. Uses: `domain`.
//!
//! Properties the rest builds on:
//! - Every wait has a deadline. A server that vanished without closing its socket would otherwise hold a caller for ever:
//!   sqlx sets no TCP keepalive, and a `statement_timeout` cannot fire on a server that is gone.
//! - A connection goes back to the pool only after its work ended well. Whatever cut it short (an error, a deadline, a
//!   caller that went away), the connection is closed: nobody finds it in the middle of somebody else's statement.
//! - One question is one statement, so one snapshot.

mod api_keys;
mod copy;
mod endpoints;
mod error;
mod flush;
mod job_runs;
mod maintenance;
mod migrations;
mod questions;
mod replica;
mod retention;
mod rows;
pub mod sql;
mod upkeep;
mod verify;

use std::collections::HashSet;
use std::future::Future;
use std::str::FromStr as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgConnection, PgPool, Postgres};

pub use api_keys::{HeldKey, ListedKey};
pub use endpoints::EndpointCaps;
pub use error::StoreError;
pub use flush::{BatchKey, BatchOutcome, FlushBatch, RequestRow};
pub use job_runs::{Claim, ClaimedRun, Due, Ending, JobRun, JobSession, Outcome, SessionLimits};
pub use maintenance::Held;
pub use migrations::{MigrationError, migrate, schema_version};
pub use questions::{
    Daily, DailyRow, EndpointFilter, RawOrder, RawRequest, RawRequests, Series, SeriesPoint, WindowTotals,
};
pub use replica::{Dated, ReplicaConfig, Source};
pub use retention::{DEMO_KEYS, ExpiredDay, IMPORT_KEYS, KeptBytes, Rollup};
pub use upkeep::Upkeep;
pub use verify::{Difference, VerifiedDays};

/// Longest wait for a connection, dialling included.
const CONNECT: Duration = Duration::from_secs(2);

/// What Postgres gives a statement of a question.
const STATEMENT: &str = "3000";

/// Longest wait for the answer to one. Longer than [`STATEMENT`], so that Postgres says no before the line is cut.
const ANSWER: Duration = Duration::from_millis(3_500);

/// Where and how to connect.
#[derive(Clone)]
pub struct StoreConfig {
    /// The database's address; holds a password.
    pub url: String,
    /// Connections kept open.
    pub pool_min: u32,
    /// Connections at most.
    pub pool_max: u32,
}

/// An address of a database that is none. It is not repeated, since it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not an address of a Postgres database")]
pub struct InvalidDatabaseUrl(&'static str);

/// From when on the finer data is kept; `None`: from the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Horizons {
    /// Minutes are complete from here on; a full hour.
    pub minutes_since: Option<DateTime<Utc>>,
    /// Raw requests are complete from here on; a UTC midnight.
    pub raw_since: Option<DateTime<Utc>>,
    /// Hours and days are told from here on; a UTC midnight.
    pub hours_since: Option<DateTime<Utc>>,
}

/// What `rollup_state` said when it was last read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    /// They only move forward, so an old copy keeps finer data than it must, never coarser.
    horizons: Horizons,
    generation: i64,
    installation: String,
}

/// The database.
pub struct Store {
    pool: PgPool,
    /// How to connect for work that the pool is not for.
    dial: PgConnectOptions,
    /// Answers questions where it is good enough.
    replica: Option<replica::Replica>,
    /// Days that have a partition, as far as this process knows.
    known_days: Mutex<HashSet<NaiveDate>>,
    state: RwLock<State>,
    /// Deltas committed by this process since it was last asked.
    deltas_written: AtomicU64,
}

impl Store {
    /// Prepares connections to the database; dials when the first is needed.
    ///
    /// # Errors
    /// [`InvalidDatabaseUrl`].
    pub fn new(config: &StoreConfig) -> Result<Self, InvalidDatabaseUrl> {
        let options = connection(&config.url, STATEMENT).ok_or(InvalidDatabaseUrl("DATABASE_URL"))?;
        let pool = pool(options.clone(), config.pool_min, config.pool_max, CONNECT);
        Ok(Self {
            pool,
            dial: options,
            replica: None,
            known_days: Mutex::default(),
            state: RwLock::default(),
            deltas_written: AtomicU64::new(0),
        })
    }

    /// Closes every connection, waiting for those in use.
    pub async fn close(&self) {
        let replica = async {
            if let Some(replica) = &self.replica {
                replica.close().await;
            }
        };
        tokio::join!(self.pool.close(), replica);
    }

    /// The horizons as this process last saw them.
    #[must_use]
    pub fn horizons(&self) -> Horizons {
        self.state.read().unwrap_or_else(PoisonError::into_inner).horizons
    }

    /// A number that moves when a closed day may read differently from before, as this process last saw it.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.state.read().unwrap_or_else(PoisonError::into_inner).generation
    }

    /// Names this database among others, as this process learnt when it last looked; empty before.
    #[must_use]
    pub fn installation(&self) -> String {
        self.state.read().unwrap_or_else(PoisonError::into_inner).installation.clone()
    }

    /// Whether this process has written at least `many` deltas since this was last true.
    #[must_use]
    pub fn wrote_deltas(&self, many: u64) -> bool {
        // A hint: that a few come in between the two does not matter.
        let wrote = self.deltas_written.load(Ordering::Relaxed) >= many;
        if wrote {
            self.deltas_written.store(0, Ordering::Relaxed);
        }
        wrote
    }

    async fn lease(&self) -> Result<Lease, StoreError> {
        Lease::of(&self.pool, CONNECT).await
    }
}

/// How every connection is made: the settings of its session, and with `statement` the milliseconds that a statement may
/// take. `None` if the address is none.
fn connection(url: &str, statement: &str) -> Option<PgConnectOptions> {
    Some(PgConnectOptions::from_str(url).ok()?.application_name("endpoint-stats").options([
        ("statement_timeout", statement),
        ("timezone", "UTC"),
        // A replica that is frozen or cut off in the middle of a transaction loses it, and with it the locks that others
        // wait for: after ten seconds if the line is up, after some twenty if it is not.
        ("idle_in_transaction_session_timeout", "10000"),
        ("tcp_keepalives_idle", "10"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "2"),
        ("tcp_user_timeout", "20000"),
        // Compiling a statement takes longer than the longest question.
        ("jit", "off"),
        // `$6 IS NULL OR endpoint_id = $6` uses the right index only when planned for the values at hand.
        ("plan_cache_mode", "force_custom_plan"),
    ]))
}

/// Connections to come; a wait for one, dialling included, ends after `patience`.
fn pool(options: PgConnectOptions, min: u32, max: u32, patience: Duration) -> PgPool {
    PgPoolOptions::new().min_connections(min).max_connections(max).acquire_timeout(patience).connect_lazy_with(options)
}

/// A connection on loan: closed when dropped, unless given back.
struct Lease(Option<PoolConnection<Postgres>>);

impl Lease {
    /// Takes a connection out of a pool whose patience is `patience`.
    async fn of(pool: &PgPool, patience: Duration) -> Result<Self, StoreError> {
        // sqlx bounds the wait in its queue and the dialling, but not the ping of a connection that lay idle.
        let connection = tokio::time::timeout(patience + Duration::from_millis(200), pool.acquire())
            .await
            .map_err(|_| StoreError::Unavailable(sqlx::Error::PoolTimedOut))?;
        match connection.map_err(StoreError::from) {
            Ok(connection) => Ok(Self(Some(connection))),
            // Whatever keeps us out (a database that lets nobody in, a password that is being changed), it is not the
            // statement's fault, and nothing was done.
            Err(StoreError::Unexpected(error)) => Err(StoreError::Unavailable(error)),
            Err(error) => Err(error),
        }
    }

    fn connection(&mut self) -> &mut PgConnection {
        // Present until `give_back` or `drop`, both of which end the lease.
        self.0.as_mut().expect("a lease has its connection")
    }

    /// The work ended well; somebody else may have the connection.
    fn give_back(mut self) {
        if let Some(mut connection) = self.0.take() {
            // What dropping it would do, with a deadline: sqlx asks the server first whether the connection still works.
            tokio::spawn(tokio::time::timeout(CONNECT, connection.return_to_pool()));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(mut connection) = self.0.take() {
            connection.close_on_drop();
        }
    }
}

/// Waits for Postgres at most so long.
async fn within<T>(deadline: Duration, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
    Ok(tokio::time::timeout(deadline, work).await.map_err(|_| StoreError::TimedOut)??)
}
