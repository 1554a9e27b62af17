//! One run of a job: from the claim of its slot to the line in `job_runs`.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Job, Jobs};
use crate::store::{Claim, ClaimedRun, Due, Ending, JobSession, Outcome, StoreError};

/// How often a slot is tried that fails.
const MOST_TRIES: i32 = 5;

/// How long after the first failure it is tried again; four times as long after each further one.
const FIRST_RETRY: TimeDelta = TimeDelta::minutes(1);

/// Why a run did not do all there was to do.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The service stops: between two pieces, so another goes on with the next.
    #[error("it was told to stop")]
    Stopped,
    /// Postgres.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something else that may be better later, in words.
    #[error("{0}")]
    Failed(String),
    /// What it found is a failure, and will be found again.
    #[error("{0}")]
    Found(String),
}

impl JobError {
    fn may_pass(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Failed(_))
    }
}

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rows so far, see [`Job::rows_are`].
    pub rows: u64,
    /// What it is at, in words.
    pub at: String,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The slot that was run.
    pub slot: DateTime<Utc>,
    /// How it ended.
    pub ending: Ending,
}

/// What came of trying to begin a run.
pub enum Begun {
    /// It can be performed.
    Won(Box<Run>),
    /// Another session has the lock of the job.
    Held,
    /// There is nothing to run for this slot.
    Settled,
    /// It failed, and is tried again from this instant on.
    Waiting(DateTime<Utc>),
}

/// A run that was claimed and not performed yet. Dropped, it is free for others.
pub struct Run {
    jobs: Jobs,
    job: Job,
    session: JobSession,
    claimed: ClaimedRun,
    by_hand: bool,
}

impl Jobs {
    /// Takes the lock of `job` and claims its slot, or, `by_hand`, the present instant.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin(&self, job: Job, by_hand: bool) -> Result<Begun, StoreError> {
        Ok(self.begin_slot(job, by_hand).await?.1)
    }

    /// The same, and the slot that was asked for; `None` where there was none to ask for.
    pub(super) async fn begin_slot(
        &self,
        job: Job,
        by_hand: bool,
    ) -> Result<(Option<DateTime<Utc>>, Begun), StoreError> {
        // Who asks by hand need not wait until it is the job's turn.
        let takes_turns = !by_hand && !job.has_its_own_lane();
        let Some(mut session) = self.store.job_session(job.name(), job.limits(), takes_turns).await? else {
            return Ok((None, Begun::Held));
        };
        // The database's time decides, not that of a pod, which may have jumped.
        self.clock.follow(session.opened_at());
        let now = self.clock.now();
        let slot = if by_hand { Some(now) } else { self.config.schedules.of(job).slot_at(now) };
        let due = match slot {
            Some(at) if by_hand => Due::ByHand(at),
            Some(at) => Due::Slot { at, first: job.begins_at_once() },
            None => return Ok((None, Begun::Settled)),
        };
        let begun = match session.claim(due, now, &self.runner).await? {
            Claim::Won(claimed) => {
                return Ok((slot, Begun::Won(Box::new(Run { jobs: self.clone(), job, session, claimed, by_hand }))));
            }
            Claim::Settled => Begun::Settled,
            Claim::Waiting(until) => Begun::Waiting(until),
        };
        session.close().await;
        Ok((slot, begun))
    }
}

impl Run {
    /// The slot that is run.
    #[must_use]
    pub fn slot(&self) -> DateTime<Utc> {
        self.claimed.slot
    }

    /// Does the work, says so in `job_runs` and in the log, and tells how it ended. Ends between two pieces when `stop` is
    /// cancelled. `progress` is told how far it is.
    pub async fn perform(self, stop: &CancellationToken, progress: Option<watch::Sender<Progress>>) -> Ended {
        let Self { jobs, job, mut session, claimed, by_hand } = self;
        let began = Instant::now();
        let mut pieces = Pieces { session: &mut session, stop, progress, rows: 0 };
        let worked = tokio::time::timeout(job.deadline(), jobs.work(job, &mut pieces)).await.unwrap_or_else(|_| {
            let whole = humantime::format_duration(job.deadline());
            Err(JobError::Failed(format!("it took longer than {whole} and was cut off")))
        });
        let mut ending = ending(worked, pieces.rows, began.elapsed(), claimed.attempt, jobs.clock.now());
        if by_hand {
            // Whoever asked sees that it failed, and asks again.
            ending.retry_at = None;
        }
        let Ending { outcome, rows, took, .. } = &ending;
        let (outcome, milliseconds) = (outcome.as_str(), took.as_millis());
        match &ending.error {
            Some(error) => {
                tracing::error!(job = job.name(), slot = %claimed.slot, rows, milliseconds, error, "a job failed")
            }
            // Six a minute of the one, a few a day of the others.
            None if job == Job::Fold => tracing::debug!(job = job.name(), outcome, rows, milliseconds, "job"),
            None => tracing::info!(job = job.name(), slot = %claimed.slot, outcome, rows, milliseconds, "job"),
        }
        // Where the session is lost, another connection says so, if nobody has taken the run over.
        if session.finish(&ending).await.is_err()
            && let Err(error) = jobs.store.finish_run(job.name(), claimed, &ending).await
        {
            tracing::warn!(job = job.name(), slot = %claimed.slot, error = %error, "the end of a run could not be written down");
        }
        Ended { slot: claimed.slot, ending }
    }
}

fn ending(worked: Result<(), JobError>, rows: u64, took: Duration, attempt: i32, now: DateTime<Utc>) -> Ending {
    let (outcome, error, retry_at) = match worked {
        Ok(()) => (Outcome::Succeeded, None, None),
        Err(JobError::Stopped) => (Outcome::Interrupted, None, None),
        Err(error) => {
            let again = error.may_pass() && attempt < MOST_TRIES;
            let retry_at = again.then(|| now + FIRST_RETRY * 4i32.pow(attempt.clamp(1, MOST_TRIES).unsigned_abs() - 1));
            (Outcome::Failed, Some(error.to_string()), retry_at)
        }
    };
    Ending { outcome, rows, took, error, retry_at }
}

/// The pieces of a run's work.
pub(super) struct Pieces<'r> {
    /// Over which all of it goes.
    pub(super) session: &'r mut JobSession,
    stop: &'r CancellationToken,
    progress: Option<watch::Sender<Progress>>,
    rows: u64,
}

impl Pieces<'_> {
    /// Outside any slot, for who needs the work done now.
    pub(super) fn unclaimed<'r>(session: &'r mut JobSession, stop: &'r CancellationToken) -> Pieces<'r> {
        Pieces { session, stop, progress: None, rows: 0 }
    }

    /// Counts what a piece has done.
    pub(super) fn count(&mut self, rows: u64) {
        self.rows += rows;
    }

    /// What has been counted.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// To be called before each piece, and every few seconds in one that is not Postgres' work: says how far the run is
    /// and that it is alive.
    ///
    /// # Errors
    /// [`JobError::Stopped`] if the service stops, [`JobError::Store`] if the run is no longer ours.
    pub(super) async fn next(&mut self, at: impl Into<String>) -> Result<(), JobError> {
        if self.stop.is_cancelled() {
            return Err(JobError::Stopped);
        }
        if let Some(progress) = &self.progress {
            progress.send_replace(Progress { rows: self.rows, at: at.into() });
        }
        Ok(self.session.confirm(self.rows).await?)
    }

    /// Waits, unless told to stop meanwhile.
    pub(super) async fn pause(&mut self, time: Duration) {
        self.stop.run_until_cancelled(tokio::time::sleep(time)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_ever_later_and_not_for_ever() {
        let now: DateTime<Utc> = "2026-11-21T10:20:30Z".parse().unwrap();
        let retry = |error, attempt| {
            let ended = ending(Err(error), 0, Duration::ZERO, attempt, now);
            assert_eq!(ended.outcome, Outcome::Failed);
            ended.retry_at.map(|at| (at - now).num_minutes())
        };
        let minutes: Vec<_> = (1..=6).map(|attempt| retry(JobError::Store(StoreError::TimedOut), attempt)).collect();
        assert_eq!(minutes, [Some(1), Some(4), Some(16), Some(64), None, None]);
        assert_eq!(retry(JobError::Found("a difference".to_owned()), 1), None);
    }

    #[test]
    fn who_is_told_to_stop_has_not_failed() {
        let ended = ending(Err(JobError::Stopped), 7, Duration::ZERO, 1, DateTime::UNIX_EPOCH);
        assert_eq!((ended.outcome, ended.rows, ended.error), (Outcome::Interrupted, 7, None));
    }
}
