//! The one loop that runs every job at its time.
//!
//! It looks twice a second which slots are due, asks for those it does not know to be settled, and runs what it wins, each
//! job beside the loop: building an index for minutes must not keep deltas from being folded. What it remembers only saves
//! questions; what holds is in `job_runs`.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Begun, Job, Jobs, every};
use crate::store::{Outcome, StoreError};

/// How often it is looked what is due. A tenth of the shortest schedule that makes sense.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a job is left alone that another has, or that failed: its runner may die any moment, and who takes over should
/// do so within two slots.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// The same of the jobs whose slots are hours apart, and where Postgres does not answer.
const ASK_AGAIN_LATER: Duration = Duration::from_secs(10);

/// What this replica knows of a job.
#[derive(Clone, Copy)]
struct Known {
    /// The slot for which there is nothing left to do.
    settled: Option<DateTime<Utc>>,
    /// When to ask again.
    ask_from: Instant,
    /// Whether it is at work here.
    busy: bool,
    /// Whether it could not even be asked for, which is told once.
    failing: bool,
}

impl Jobs {
    /// Runs every job at its time, until `stop`; what is running then ends its piece.
    pub(super) async fn schedule(&self, stop: &CancellationToken) {
        let mut known =
            Job::ALL.map(|_| Known { settled: None, ask_from: Instant::now(), busy: false, failing: false });
        let mut running: JoinSet<(Job, DateTime<Utc>, Result<Tried, StoreError>)> = JoinSet::new();
        let mut ticks = every(LOOK_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
                Some(ended) = running.join_next() => match ended {
                    Ok((job, slot, tried)) => known[job as usize].learn(job, slot, &tried),
                    // A mistake of ours ended it; its session ended with it, and the next who asks takes it over.
                    Err(error) => {
                        tracing::error!(error = %error, "a job was cut short");
                        let now = Instant::now();
                        known.iter_mut().for_each(|known| {
                            known.busy = false;
                            known.ask_from = known.ask_from.max(now + ASK_AGAIN_LATER);
                        });
                    }
                },
            }
            let now = self.clock.now();
            for job in Job::ALL {
                let lane_is_free = job.has_its_own_lane()
                    || !Job::ALL.iter().any(|other| !other.has_its_own_lane() && known[*other as usize].busy);
                let Some(slot) = self.config.schedules.of(job).slot_at(now) else { continue };
                let known = &mut known[job as usize];
                if known.busy || known.settled == Some(slot) || known.ask_from > Instant::now() || !lane_is_free {
                    continue;
                }
                known.busy = true;
                let (jobs, stop) = (self.clone(), stop.clone());
                running.spawn(async move { (job, slot, jobs.attempt(job, &stop).await) });
            }
        }
        while running.join_next().await.is_some() {}
    }

    async fn attempt(&self, job: Job, stop: &CancellationToken) -> Result<Tried, StoreError> {
        Ok(match self.begin(job, false).await? {
            Begun::Won(run) => {
                let ended = run.perform(stop, None).await;
                Tried::Ran { slot: ended.slot, succeeded: ended.ending.outcome == Outcome::Succeeded }
            }
            Begun::Settled => Tried::Settled,
            Begun::Held | Begun::Waiting(_) => Tried::NotNow,
        })
    }
}

/// What came of trying to run what is due.
#[derive(Debug)]
enum Tried {
    Ran { slot: DateTime<Utc>, succeeded: bool },
    Settled,
    NotNow,
}

impl Known {
    fn learn(&mut self, job: Job, slot: DateTime<Utc>, tried: &Result<Tried, StoreError>) {
        let soon = if job.has_its_own_lane() { ASK_AGAIN_AFTER } else { ASK_AGAIN_LATER };
        self.busy = false;
        match tried {
            Ok(Tried::Settled) => self.settled = Some(slot),
            // What somebody else had left unfinished goes first; then this slot is asked for again, at once.
            Ok(Tried::Ran { slot: ran, succeeded: true }) => self.settled = Some(*ran),
            Ok(Tried::Ran { succeeded: false, .. } | Tried::NotNow) => self.ask_from = Instant::now() + soon,
            Err(error) => {
                if !self.failing {
                    tracing::error!(job = job.name(), error = %error, "a job cannot be asked for");
                }
                self.ask_from = Instant::now() + ASK_AGAIN_LATER;
            }
        }
        self.failing = tried.is_err();
    }
}
