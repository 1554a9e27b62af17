//! A read replica, asked before the primary where it is good enough, and never waited for long.
//!
//! Decides whether a replica may answer a question, and as of when its answer is. Uses: the primary for the beats.
//!
//! How a replica is dated: every process that has one writes the primary's time into `replication_beat` each second. A
//! replica that shows the beat *t* has everything that was committed before *t*, since it replays commits in their order.
//! That holds for any kind of physical replication and needs no privilege. The beat is read first and the question after
//! it on the same connection, so the answer has at least what the beat promises.
//!
//! The primary answers instead where the replica
//! - is further behind than the limit, or ahead of the clock, so that its beat says nothing;
//! - shows an older generation than this process knows: its answer would be kept for hours under the key of the newer one;
//! - is another database, or none that can be told yet;
//! - fails or does not answer in time. It then gets no question for [`REST`], or each would wait for a server that hangs.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row as _};

use super::questions::Query;
use super::{ANSWER, InvalidDatabaseUrl, Lease, Store, StoreError, connection, pool, sql, within};
use crate::domain::Clock;

/// For a connection and the beat together. With [`REPLICA_ANSWER`] and the 3 s that the primary gives a statement it fills
/// the 5 s of a question.
const DATED: Duration = Duration::from_millis(500);

/// What the replica gives a statement; fifty times what the longest question takes.
const REPLICA_STATEMENT: &str = "1300";

/// For the answer to one, a little longer, so that Postgres says no before the line is cut.
const REPLICA_ANSWER: Duration = Duration::from_millis(1_500);

/// How long a replica that failed is left alone. Then the beat asks it first, so that no question waits for one that hangs.
const REST: Duration = Duration::from_secs(5);

/// How long after the start a replica may show no beat, or an old one, without a word in the log: the first is on its way.
const FIRST_BEAT: Duration = Duration::from_secs(5);

/// How far a beat may be ahead of this process' clock, which follows the primary's every ten seconds.
const AHEAD: TimeDelta = TimeDelta::seconds(1);

/// Where a read replica is and how it is used.
#[derive(Clone)]
pub struct ReplicaConfig {
    /// The replica's address; holds a password.
    pub url: String,
    /// Connections kept open.
    pub pool_min: u32,
    /// Connections at most.
    pub pool_max: u32,
    /// How far behind it may be.
    pub max_lag: TimeDelta,
}

/// Who may answer a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The primary: the present state.
    Primary,
    /// The replica, if there is one and it is good enough.
    ReplicaIfGood,
}

/// What was found, and as of when.
#[derive(Debug)]
pub struct Dated<T> {
    /// What was found.
    pub found: T,
    /// Everything committed before this instant was looked at; `None`: everything, the primary answered.
    pub as_of: Option<DateTime<Utc>>,
}

impl<T> Dated<T> {
    /// The instant that an answer begun at `now` speaks for, to the millisecond.
    #[must_use]
    pub fn through(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.as_of.map_or(now, |as_of| as_of.trunc_subsecs(3).min(now))
    }

    pub(super) fn try_map<U, E>(self, read: impl FnOnce(T) -> Result<U, E>) -> Result<Dated<U>, E> {
        Ok(Dated { found: read(self.found)?, as_of: self.as_of })
    }
}

/// How the replica was found last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Good,
    /// It answers, but shows too old a state or another database.
    Unfit,
    /// It failed then.
    Away(Instant),
}

/// The replica of a [`Store`].
pub(super) struct Replica {
    pool: PgPool,
    max_lag: TimeDelta,
    clock: Clock,
    started: Instant,
    standing: Mutex<Standing>,
    /// Which database the primary says it is; `None` until the first beat.
    installation: Mutex<Option<String>>,
}

/// What a replica says of itself.
struct Shown {
    beat_at: Option<DateTime<Utc>>,
    generation: i64,
    installation: String,
}

impl Replica {
    fn new(config: &ReplicaConfig, clock: Clock) -> Result<Self, InvalidDatabaseUrl> {
        let options = connection(&config.url, REPLICA_STATEMENT).ok_or(InvalidDatabaseUrl("DATABASE_READ_URL"))?;
        Ok(Self {
            pool: pool(options, config.pool_min, config.pool_max, DATED),
            max_lag: config.max_lag,
            clock,
            started: Instant::now(),
            standing: Mutex::new(Standing::Good),
            installation: Mutex::default(),
        })
    }

    /// Rows and the instant they are as of; `None` where the primary should answer.
    pub(super) async fn fetch_all(&self, query: Query<'_>, generation: i64) -> Option<(Vec<PgRow>, DateTime<Utc>)> {
        if matches!(self.standing(), Standing::Away(_)) {
            return None;
        }
        let asked = async {
            let (mut lease, shown) = self.shown().await?;
            // An older generation is no reason to think ill of the replica: it is for a moment, whenever a closed day changes.
            let Some(as_of) = self.good_enough(&shown).filter(|_| shown.generation >= generation) else {
                lease.give_back();
                return Ok(None);
            };
            let rows = within(REPLICA_ANSWER, query.fetch_all(lease.connection())).await?;
            lease.give_back();
            Ok(Some((rows, as_of)))
        };
        asked.await.unwrap_or_else(|error: StoreError| {
            self.failed(&error);
            None
        })
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    /// Looks how the replica is, unless it is known to be well or has failed a moment ago.
    async fn look(&self) {
        match self.standing() {
            Standing::Good => return,
            Standing::Away(since) if since.elapsed() < REST => return,
            Standing::Away(_) | Standing::Unfit => {}
        }
        match self.shown().await {
            Ok((lease, shown)) => {
                lease.give_back();
                self.good_enough(&shown);
            }
            Err(error) => self.failed(&error),
        }
    }

    /// A connection, and what it shows.
    async fn shown(&self) -> Result<(Lease, Shown), StoreError> {
        let asked = async {
            let mut lease = Lease::of(&self.pool, DATED).await?;
            let row = sqlx::query(sql::REPLICA_STATE.sql).fetch_one(lease.connection()).await?;
            let (beat_at, generation) = (row.try_get("beat_at")?, row.try_get("data_generation")?);
            Ok((lease, Shown { beat_at, generation, installation: row.try_get("installation")? }))
        };
        tokio::time::timeout(DATED, asked).await.map_err(|_| StoreError::TimedOut)?
    }

    /// The instant up to which the replica has everything, if it is one of this database and near enough.
    fn good_enough(&self, shown: &Shown) -> Option<DateTime<Utc>> {
        let primary = self.installation.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let lag = shown.beat_at.map(|beat_at| self.clock.now() - beat_at);
        let ours = shown.installation == primary;
        let near = lag.is_some_and(|lag| (-AHEAD..=self.max_lag).contains(&lag));
        if !near && self.started.elapsed() < FIRST_BEAT {
            return None;
        }
        let before = self.stands(if ours && near { Standing::Good } else { Standing::Unfit });
        match (before, ours && near) {
            (Standing::Good | Standing::Away(_), false) if !ours => {
                tracing::error!(
                    "DATABASE_READ_URL is another database than DATABASE_URL; the primary answers questions"
                );
            }
            (Standing::Good | Standing::Away(_), false) => {
                let seconds = lag.map(|lag| lag.num_seconds());
                tracing::warn!(
                    lag_seconds = seconds,
                    "the read replica is too far behind; the primary answers questions"
                );
            }
            (Standing::Unfit | Standing::Away(_), true) => tracing::info!("the read replica answers questions again"),
            (Standing::Good, true) | (Standing::Unfit, false) => {}
        }
        shown.beat_at.filter(|_| ours && near)
    }

    fn failed(&self, error: &StoreError) {
        if !matches!(self.stands(Standing::Away(Instant::now())), Standing::Away(_)) {
            tracing::warn!(error = %error, "the read replica failed; the primary answers questions");
        }
    }

    fn standing(&self) -> Standing {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how the replica is found; returns how it was before, so that a change is told once.
    fn stands(&self, now: Standing) -> Standing {
        std::mem::replace(&mut *self.standing.lock().unwrap_or_else(PoisonError::into_inner), now)
    }
}

impl Store {
    /// The same store with a replica for its questions; dials when the first is asked. `clock` says how far behind it is.
    ///
    /// # Errors
    /// [`InvalidDatabaseUrl`].
    pub fn with_replica(self, config: &ReplicaConfig, clock: Clock) -> Result<Self, InvalidDatabaseUrl> {
        Ok(Self { replica: Some(Replica::new(config, clock)?), ..self })
    }

    /// Whether questions may be answered by a replica.
    #[must_use]
    pub fn has_replica(&self) -> bool {
        self.replica.is_some()
    }

    /// Leaves the present instant for the replicas to show. Without a replica, nothing to do.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn beat(&self) -> Result<(), StoreError> {
        let Some(replica) = &self.replica else { return Ok(()) };
        let mut lease = self.lease().await?;
        let installation = within(ANSWER, sqlx::query_scalar(sql::BEAT.sql).fetch_one(lease.connection())).await?;
        lease.give_back();
        *replica.installation.lock().unwrap_or_else(PoisonError::into_inner) = Some(installation);
        Ok(())
    }

    /// Looks whether a replica that was not good enough is again. Never waits for longer than half a second.
    pub async fn look_at_replica(&self) {
        if let Some(replica) = &self.replica {
            replica.look().await;
        }
    }
}
