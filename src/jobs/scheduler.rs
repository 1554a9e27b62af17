//! The one loop that runs every job at its time.
//!
//! It looks twice a second which slots are due, asks for those it does not know to be settled, and runs what it wins, each
//! job beside the loop: building an index for minutes must not keep deltas from being folded. What it remembers only saves
//! questions; what holds is in `job_runs`.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Begun, Job, Jobs, every};
use crate::store::{Outcome, StoreError};

/// How often it is looked what is due. A tenth of the shortest schedule that makes sense.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// For how many looks (2 s) the fold is left alone that another has, or that failed: its runner may die any moment, and who
/// takes over should do so within two slots.
const ASK_AGAIN_AFTER: u32 = 4;

/// The same (10 s) of the jobs whose slots are minutes and hours apart, and where Postgres does not answer.
const ASK_AGAIN_LATER: u32 = 20;

/// What this replica knows of a job.
#[derive(Clone, Copy)]
struct Known {
    /// The slot for which there is nothing left to do.
    settled: Option<DateTime<Utc>>,
    /// When to ask again.
    ask_from: Instant,
    /// The task in which it is at work here.
    task: Option<Id>,
    /// Whether it could not even be asked for, which is told once.
    failing: bool,
}

impl Jobs {
    /// Runs every job at its time, until `stop`; what is running then ends its piece.
    pub(super) async fn schedule(&self, stop: &CancellationToken) {
        let mut known = Job::ALL.map(|_| Known { settled: None, ask_from: Instant::now(), task: None, failing: false });
        let mut running: JoinSet<(Job, Result<Tried, StoreError>)> = JoinSet::new();
        let mut ticks = every(self.look_every);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
                Some(ended) = running.join_next() => match ended {
                    Ok((job, tried)) => known[job as usize].learn(job, &tried, self.look_every),
                    // A mistake of ours ended it; its session ended with it, and the next who asks takes it over. The other
                    // jobs are at work as before.
                    Err(error) => {
                        let cut_short = Job::ALL.iter().find(|job| known[**job as usize].task == Some(error.id()));
                        if let Some(job) = cut_short {
                            tracing::error!(job = job.name(), error = %error, "a job was cut short");
                            known[*job as usize].leave_alone(self.look_every * ASK_AGAIN_LATER);
                        }
                    }
                },
            }
            let now = self.clock.now();
            for job in Job::ALL {
                let lane_is_free = job.has_its_own_lane()
                    || !Job::ALL.iter().any(|other| !other.has_its_own_lane() && known[*other as usize].task.is_some());
                let Some(slot) = self.config.schedules.of(job).slot_at(now) else { continue };
                let known = &mut known[job as usize];
                if known.task.is_some()
                    || known.settled == Some(slot)
                    || known.ask_from > Instant::now()
                    || !lane_is_free
                {
                    continue;
                }
                let (jobs, stop) = (self.clone(), stop.clone());
                let task = running.spawn(async move { (job, jobs.attempt(job, &stop).await) });
                known.task = Some(task.id());
            }
        }
        while running.join_next().await.is_some() {}
    }

    async fn attempt(&self, job: Job, stop: &CancellationToken) -> Result<Tried, StoreError> {
        let (slot, begun) = self.begin_slot(job, false).await?;
        Ok(match begun {
            Begun::Won(run) => {
                let ended = run.perform(stop, None).await;
                Tried::Ran { slot: ended.slot, succeeded: ended.ending.outcome == Outcome::Succeeded }
            }
            Begun::Settled => Tried::Settled(slot),
            Begun::Held | Begun::Waiting(_) => Tried::NotNow,
        })
    }
}

/// What came of trying to run what is due.
#[derive(Debug)]
enum Tried {
    Ran {
        slot: DateTime<Utc>,
        succeeded: bool,
    },
    /// There is nothing left to do for this slot: the one due by the database's clock, which ours may not have followed yet
    /// when we looked.
    Settled(Option<DateTime<Utc>>),
    NotNow,
}

impl Known {
    fn learn(&mut self, job: Job, tried: &Result<Tried, StoreError>, look_every: Duration) {
        let soon = look_every * if job == Job::Fold { ASK_AGAIN_AFTER } else { ASK_AGAIN_LATER };
        self.task = None;
        if self.failing && tried.is_ok() {
            tracing::info!(job = job.name(), "a job is asked for again");
        }
        match tried {
            Ok(Tried::Settled(slot)) => self.settled = *slot,
            // What somebody else had left unfinished goes first; then this slot is asked for again, at once.
            Ok(Tried::Ran { slot: ran, succeeded: true }) => self.settled = Some(*ran),
            Ok(Tried::Ran { succeeded: false, .. } | Tried::NotNow) => self.leave_alone(soon),
            Err(error) => {
                if !self.failing {
                    tracing::error!(job = job.name(), error = %error, "a job cannot be asked for");
                }
                self.leave_alone(look_every * ASK_AGAIN_LATER);
            }
        }
        self.failing = tried.is_err();
    }

    fn leave_alone(&mut self, time: Duration) {
        self.task = None;
        self.ask_from = Instant::now() + time;
    }
}
