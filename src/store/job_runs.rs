//! Runs of maintenance: one session of Postgres each.
//!
//! **A run is a session.** It holds the advisory lock of its job, all its work goes over it, and so its end is the end of the
//! run: a process that is killed, paused or cut off loses the session, and with it the lock and whatever it had not
//! committed, and has nothing to write with when it wakes. Postgres ends a session that says nothing for ten seconds (a
//! paused process keeps its socket open and answers keepalives), one whose line is dead within twenty, and one whose client
//! is gone within two even in the middle of a statement.
//!
//! **A slot is a row** of `job_runs`, unique by job and instant. It is claimed under the lock and ended by the attempt that
//! claimed it last, so that it says of every slot whether it was run, by whom, and how often it had to be begun.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::{ANSWER, CONNECT, Store, StoreError, sql, within};

/// How often Postgres looks whether the client of a running statement is still there. Not every platform can; there a
/// statement runs to its end before the lock is free.
const LOOK_FOR_CLIENT: &str = "SET client_connection_check_interval = '2s'";

/// Frees the lock of the job.
const UNLOCK: &str = "SELECT pg_advisory_unlock_all()";

/// How often a run is begun whose process ends each time: it may be the run that ends it.
const MOST_ATTEMPTS: i32 = 10;

/// How the session of a run differs from others.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// The longest statement. Postgres ends it, and a little later this side cuts the line.
    pub statement: Duration,
    /// The longest wait for a lock: whoever waits for a table lock makes everybody behind wait too.
    pub lock: Duration,
}

/// What there is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// A slot of the schedule. A job that was never seen before runs it if `first`, and waits for the next otherwise.
    Slot {
        /// When it was due.
        at: DateTime<Utc>,
        /// Whether a new job begins with it.
        first: bool,
    },
    /// Somebody asked for it at this instant.
    ByHand(DateTime<Utc>),
}

/// Which run a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimedRun {
    /// The slot: not always the one asked for, since a run that was cut off goes first.
    pub slot: DateTime<Utc>,
    /// How often it has been begun, from 1.
    pub attempt: i32,
}

/// What came of asking for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It is ours to run.
    Won(ClaimedRun),
    /// It has been run, or a later one has, or the job is new and waits for its next.
    Settled,
    /// It failed, and is tried again from this instant on.
    Waiting(DateTime<Utc>),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is at work, as far as anybody knows.
    Running,
    /// It was told to stop, or its process died: another goes on.
    Interrupted,
    /// All is done.
    Succeeded,
    /// It could not.
    Failed,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Running, Self::Interrupted, Self::Succeeded, Self::Failed];

    /// The word in the database and in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }

    fn of(word: &str) -> Self {
        match word {
            "running" => Self::Running,
            "interrupted" => Self::Interrupted,
            "succeeded" => Self::Succeeded,
            // The table takes no other word.
            _ => Self::Failed,
        }
    }
}

/// How a run ended, as it is written down.
#[derive(Debug, Clone)]
pub struct Ending {
    /// How.
    pub outcome: Outcome,
    /// Rows moved, written or deleted.
    pub rows: u64,
    /// How long it took.
    pub took: Duration,
    /// Why it failed.
    pub error: Option<String>,
    /// From when on it is tried again.
    pub retry_at: Option<DateTime<Utc>>,
}

/// A run as it stands in `job_runs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRun {
    /// Name of the job.
    pub job: String,
    /// When it was due or asked for.
    pub slot: DateTime<Utc>,
    /// How it ended, or that it has not.
    pub outcome: Outcome,
    /// Rows so far.
    pub rows: Option<u64>,
    /// How long it took, milliseconds.
    pub duration_ms: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
    /// How often it was begun.
    pub attempts: u32,
    /// When it was begun, the last time.
    pub started_at: DateTime<Utc>,
    /// Whether a person asked for it.
    pub by_hand: bool,
    /// From when on it is tried again.
    pub retry_at: Option<DateTime<Utc>>,
}

/// A session that holds the lock of a job, until it is dropped or ends.
pub struct JobSession {
    connection: PgConnection,
    job: &'static str,
    limits: SessionLimits,
    opened_at: DateTime<Utc>,
    run: Option<ClaimedRun>,
}

impl Store {
    /// Opens a session for a run of `job` and takes its lock, and where it `takes_turns` with other jobs, the lock that these have
    /// in common; `None` where another session has one of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn job_session(
        &self,
        job: &'static str,
        limits: SessionLimits,
        takes_turns: bool,
    ) -> Result<Option<JobSession>, StoreError> {
        let milliseconds = |time: Duration| time.as_millis().to_string();
        let name = format!("endpoint-stats job {job}");
        let options = self.dial.clone().application_name(&name).options([
            ("statement_timeout", milliseconds(limits.statement)),
            ("lock_timeout", milliseconds(limits.lock)),
            ("idle_session_timeout", "10000".to_owned()),
        ]);
        // Not out of the pool: maintenance must not wait for ingest, nor take connections from it.
        let mut connection = match within(CONNECT, PgConnection::connect_with(&options)).await {
            // As for the pool: whatever keeps us out, nothing was done.
            Err(StoreError::Unexpected(error)) => return Err(StoreError::Unavailable(error)),
            connected => connected?,
        };
        let _ = within(ANSWER, sqlx::query(LOOK_FOR_CLIENT).execute(&mut connection)).await;
        let lock = sqlx::query(sql::LOCK_JOB.sql).bind(job).bind(takes_turns);
        let row = within(ANSWER, lock.fetch_one(&mut connection)).await?;
        let opened_at = row.try_get("database_time")?;
        let locked: bool = row.try_get("locked")?;
        Ok(locked.then_some(JobSession { connection, job, limits, opened_at, run: None }))
    }

    /// Says over any connection how a run ended whose own session is gone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn finish_run(&self, job: &str, run: ClaimedRun, ending: &Ending) -> Result<(), StoreError> {
        let mut lease = self.lease().await?;
        finish(lease.connection(), job, run, ending).await?;
        lease.give_back();
        Ok(())
    }

    /// The last runs of each of `jobs`, newest first, at most `limit` of each.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_runs(&self, jobs: &[&str], limit: u32) -> Result<Vec<JobRun>, StoreError> {
        let mut lease = self.lease().await?;
        let query = sqlx::query(sql::LAST_RUNS.sql).bind(jobs).bind(i64::from(limit));
        let found = within(ANSWER, query.fetch_all(lease.connection())).await?;
        lease.give_back();
        Ok(found.iter().map(job_run).collect::<Result<_, sqlx::Error>>()?)
    }
}

impl JobSession {
    /// The database's time when the session took the lock.
    #[must_use]
    pub fn opened_at(&self) -> DateTime<Utc> {
        self.opened_at
    }

    /// Claims what is due, as of `now`.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is claimed.
    pub async fn claim(&mut self, due: Due, now: DateTime<Utc>, runner: &str) -> Result<Claim, StoreError> {
        let (slot, by_hand, first) = match due {
            Due::Slot { at, first } => (at, false, first),
            Due::ByHand(at) => (at, true, true),
        };
        let dead = sqlx::query(sql::SETTLE_DEAD_RUNS.sql).bind(self.job).bind(MOST_ATTEMPTS);
        within(ANSWER, dead.execute(&mut self.connection)).await?;
        loop {
            let query = sqlx::query(sql::CLAIM_SLOT.sql).bind(self.job).bind(slot).bind(by_hand).bind(now);
            let row = within(ANSWER, query.bind(runner).bind(first).fetch_one(&mut self.connection)).await?;
            return Ok(match row.try_get("verdict")? {
                "won" => {
                    let run = ClaimedRun { slot: row.try_get("slot")?, attempt: row.try_get("attempts")? };
                    self.run = Some(run);
                    Claim::Won(run)
                }
                "waiting" => Claim::Waiting(row.try_get("retry_at")?),
                // Its end was written down meanwhile, over a connection that needs no lock: once, so this ends.
                "changed" => continue,
                _ => Claim::Settled,
            });
        }
    }

    /// Says that the run has moved `rows` so far, and in doing so that it is still at it: to be called between pieces, and
    /// at least every few seconds where the work is not Postgres'.
    ///
    /// # Errors
    /// [`StoreError::Contended`] if another has taken the run over.
    pub async fn confirm(&mut self, rows: u64) -> Result<(), StoreError> {
        // Work that nobody claimed (an import that folds) has nothing to say and nothing to lose.
        let Some(run) = self.run else { return Ok(()) };
        let query = sqlx::query(sql::CONFIRM_RUN.sql).bind(self.job).bind(run.slot).bind(run.attempt);
        let confirmed = query.bind(i64::try_from(rows).unwrap_or(i64::MAX)).fetch_optional(&mut self.connection);
        within(ANSWER, confirmed).await?.map(drop).ok_or(StoreError::Contended)
    }

    /// Says how the run ended, and closes the session.
    ///
    /// # Errors
    /// [`StoreError`]; the run may still say that it is running.
    pub async fn finish(mut self, ending: &Ending) -> Result<(), StoreError> {
        if let Some(run) = self.run {
            finish(&mut self.connection, self.job, run, ending).await?;
        }
        self.close().await;
        Ok(())
    }

    /// Ends the session; its lock is free when this returns.
    pub async fn close(mut self) {
        // Gone either way, but Postgres takes a moment to see that, and whoever comes next would find the lock taken.
        if within(ANSWER, sqlx::query(UNLOCK).execute(&mut self.connection)).await.is_ok() {
            let _ = within(ANSWER, self.connection.close()).await;
        }
    }

    /// The connection, and how long to wait for one of its statements: longer than Postgres lets it run, so that Postgres
    /// says no before the line is cut.
    pub(super) fn connection(&mut self) -> (&mut PgConnection, Duration) {
        (&mut self.connection, self.limits.statement + Duration::from_secs(1))
    }
}

async fn finish(connection: &mut PgConnection, job: &str, run: ClaimedRun, ending: &Ending) -> Result<(), StoreError> {
    let bigint = |count: u128| i64::try_from(count).unwrap_or(i64::MAX);
    let query = sqlx::query(sql::FINISH_RUN.sql)
        .bind(job)
        .bind(run.slot)
        .bind(run.attempt)
        .bind(ending.outcome.as_str())
        .bind(bigint(ending.rows.into()))
        .bind(bigint(ending.took.as_millis()))
        .bind(&ending.error)
        .bind(ending.retry_at);
    within(ANSWER, query.fetch_optional(connection)).await?.map(drop).ok_or(StoreError::Contended)
}

fn job_run(row: &PgRow) -> Result<JobRun, sqlx::Error> {
    let count = |column| Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(column)?.map(i64::unsigned_abs));
    Ok(JobRun {
        job: row.try_get("job")?,
        slot: row.try_get("slot")?,
        outcome: Outcome::of(row.try_get("outcome")?),
        rows: count("rows")?,
        duration_ms: count("duration_ms")?,
        error: row.try_get("error")?,
        attempts: row.try_get::<i32, _>("attempts")?.unsigned_abs(),
        started_at: row.try_get("started_at")?,
        by_hand: row.try_get("by_hand")?,
        retry_at: row.try_get("retry_at")?,
    })
}
