//! Maintenance: what is done, when, and by which replica.
//!
//! Owns: the table of jobs, their schedules, what each does. Uses: `store`, `cache`, `logs`, `domain`.
//!
//! Properties:
//! - A job has no input. It reads from the database what there is to do, so it may run at any time and any number of times,
//!   and what one run leaves the next finds.
//! - A slot, that is a job and an instant at which it was due, is run once, by whichever replica claims it. Of slots that
//!   went by while nobody ran, the last is made up for, once. The database's clock decides.
//! - A run is a session of Postgres that holds the lock of its job: see `store::JobSession` for what becomes of a process
//!   that is killed, paused or cut off in the middle.
//! - Work is done in pieces, each a transaction or a statement. A service that stops ends its piece; another goes on.
//!
//! | file | holds |
//! |---|---|
//! | `job` | the jobs: names, words, schedules, limits |
//! | `schedule` | when a job is due |
//! | `scheduler` | the one loop |
//! | `run` | from the claim of a slot to the line in `job_runs` |
//! | `report` | what there is to say of each job |
//! | `work` | what each job does |

mod job;
mod report;
mod run;
mod schedule;
mod scheduler;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use job::{Job, NoSuchJob, Schedules};
pub use report::{JobAnswer, JobReport, JobState, JobsAnswer, RunReport, StartedAnswer};
pub use run::{Begun, Ended, JobError, Progress, Run};
pub use schedule::{InvalidSchedule, Schedule};

use crate::cache::Cache;
use crate::domain::Clock;
use crate::logs;
use crate::store::{Held, Horizons, JobRun, Store, StoreError};
use run::Pieces;

/// How often clock, horizons and generation are read: so much later all replicas tell what has changed of closed days.
const SYNCHRONISE_EVERY: Duration = Duration::from_secs(2);

/// How often the primary is given an instant that read replicas are dated by; so an answer of theirs is about so much older
/// than it would have to be.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// How often old log files are looked for.
const LOG_FILES_EVERY: Duration = Duration::from_secs(3_600);

/// How long data is kept; `None`: for ever.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Raw requests.
    pub raw: Option<TimeDelta>,
    /// Minutes.
    pub minutes: Option<TimeDelta>,
    /// Hours.
    pub hours: Option<TimeDelta>,
}

impl Retention {
    /// From when on data is kept at `now`.
    #[must_use]
    pub fn horizons(&self, now: DateTime<Utc>) -> Horizons {
        // Fails only for instants centuries away.
        let floor = |instant: DateTime<Utc>, step| instant.duration_trunc(step).unwrap_or(instant);
        Horizons {
            minutes_since: self.minutes.map(|keep| floor(now - keep, TimeDelta::hours(1))),
            raw_since: self.raw.map(|keep| floor(now - keep, TimeDelta::days(1))),
            hours_since: self.hours.map(|keep| floor(now - keep, TimeDelta::days(1))),
        }
    }
}

/// How long the rest is kept; `None`: for ever.
#[derive(Debug, Clone)]
pub struct Keeps {
    /// Idempotency keys of clients.
    pub idempotency_keys: Option<TimeDelta>,
    /// Runs of jobs; of each job the last is kept in any case.
    pub job_runs: Option<TimeDelta>,
    /// Log files of this process, where it writes any.
    pub logs: Option<LogKeep>,
}

/// Where a process writes its log files, and how long they are kept.
#[derive(Debug, Clone)]
pub struct LogKeep {
    /// The directory.
    pub dir: PathBuf,
    /// `None`: for ever.
    pub keep: Option<TimeDelta>,
}

impl Default for Keeps {
    fn default() -> Self {
        Self { idempotency_keys: Some(TimeDelta::days(7)), job_runs: Some(TimeDelta::days(7)), logs: None }
    }
}

/// What the jobs go by.
#[derive(Debug, Clone)]
pub struct JobsConfig {
    /// When each is due.
    pub schedules: Schedules,
    /// How long data is kept.
    pub retention: Retention,
    /// How long the rest is kept.
    pub keeps: Keeps,
}

impl JobsConfig {
    /// The usual, with this retention.
    #[must_use]
    pub fn new(retention: Retention) -> Self {
        Self { schedules: Schedules::default(), retention, keeps: Keeps::default() }
    }
}

/// The jobs of one replica.
#[derive(Clone)]
pub struct Jobs {
    store: Arc<Store>,
    cache: Option<Arc<Cache>>,
    clock: Clock,
    config: Arc<JobsConfig>,
    /// Who writes to `job_runs`, for people.
    runner: Arc<str>,
    look_every: Duration,
    /// Runs that somebody asked for by hand, and how they are told to stop.
    by_hand: TaskTracker,
    by_hand_stop: CancellationToken,
}

impl Jobs {
    /// The jobs on `store`; without a cache there is none to clean up.
    #[must_use]
    pub fn new(store: Arc<Store>, clock: Clock, config: JobsConfig) -> Self {
        let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        let runner = format!("{} {}", host.trim(), std::process::id()).trim().into();
        let (by_hand, by_hand_stop) = (TaskTracker::new(), CancellationToken::new());
        Self {
            store,
            cache: None,
            clock,
            config: Arc::new(config),
            runner,
            look_every: scheduler::LOOK_EVERY,
            by_hand,
            by_hand_stop,
        }
    }

    /// With the cache whose old answers are cleaned up.
    #[must_use]
    pub fn with_cache(self, cache: Arc<Cache>) -> Self {
        Self { cache: Some(cache), ..self }
    }

    /// Looking so often what is due, and asking again so much sooner: for clocks that run faster than ours.
    #[must_use]
    pub fn looking_every(self, period: Duration) -> Self {
        Self { look_every: period, ..self }
    }

    /// When each job is due.
    #[must_use]
    pub fn schedules(&self) -> &Schedules {
        &self.config.schedules
    }

    /// The present instant, as far as the jobs are concerned.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The last runs of each of `jobs`, newest first, at most `limit` of each.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_runs(&self, jobs: &[Job], limit: u32) -> Result<Vec<JobRun>, StoreError> {
        let names: Vec<&str> = jobs.iter().map(|job| job.name()).collect();
        self.store.last_runs(&names, limit).await
    }

    /// Begins `job` now and performs it in the background; it ends well when the service stops. [`Begun::Held`] where it is
    /// running already.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn start(&self, job: Job) -> Result<Started, StoreError> {
        let Begun::Won(run) = self.begin(job, true).await? else { return Ok(Started::AlreadyRunning) };
        let slot = run.slot();
        let stop = self.by_hand_stop.clone();
        self.by_hand.spawn(async move { run.perform(&stop, None).await });
        Ok(Started::Now(slot))
    }

    /// Corrects the clock by the database's, learns from when on data is kept, and moves that on as the retention says.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn synchronise(&self) -> Result<(), StoreError> {
        let before = self.learn().await?.horizons;
        let wanted = self.config.retention.horizons(self.clock.now());
        let after = self.store.advance_horizons(wanted, true).await?.horizons;
        for (what, before, after) in [
            ("minutes", before.minutes_since, after.minutes_since),
            ("raw requests", before.raw_since, after.raw_since),
            ("hours", before.hours_since, after.hours_since),
        ] {
            // Not by the passing of time, unless nobody looked for days: somebody has shortened the retention.
            if let (Some(before), Some(after)) = (before, after)
                && after - before > TimeDelta::days(2)
            {
                tracing::warn!(what, %before, %after, "much less is kept than before; what lies between is deleted by the next `retention`");
            }
        }
        Ok(())
    }

    /// The same for a visitor, who may have been started with another retention than the service: what the service keeps
    /// stays as it is, be it all there is. Only a database that no service has used yet gets the visitor's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn synchronise_as_visitor(&self) -> Result<(), StoreError> {
        if !self.learn().await?.is_served {
            let wanted = self.config.retention.horizons(self.clock.now());
            self.store.advance_horizons(wanted, false).await?;
        }
        Ok(())
    }

    /// As [`synchronise`](Self::synchronise), moving nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn learn(&self) -> Result<Held, StoreError> {
        let held = self.store.advance_horizons(Horizons::default(), false).await?;
        self.clock.follow(held.database_time);
        Ok(held)
    }

    /// Moves all deltas there are into minutes and hours, outside any slot. Returns how many, `None` where another
    /// replica is at it.
    ///
    /// # Errors
    /// [`JobError`]; whole pieces may have been moved.
    pub async fn fold(&self, stop: &CancellationToken) -> Result<Option<u64>, JobError> {
        self.unclaimed(Job::Fold, stop, async |pieces| self.fold_all(pieces).await.map(|_| pieces.rows())).await
    }

    /// Brings the daily view up to date if a day has closed or is stale, outside any slot; with `always`, in any case.
    /// Returns whether it did, `None` where another replica is at it.
    ///
    /// # Errors
    /// [`JobError`].
    pub async fn refresh(&self, always: bool) -> Result<Option<bool>, JobError> {
        let stop = CancellationToken::new();
        let today = self.clock.now().date_naive();
        self.unclaimed(Job::Refresh, &stop, async |pieces| Ok(pieces.session.refresh(today, always).await?.is_some()))
            .await
    }

    /// Makes the partitions of the days ahead, and gives closed days their btree, outside any slot. Returns how many,
    /// `None` where another replica is at it.
    ///
    /// # Errors
    /// [`JobError`].
    pub async fn partitions(&self) -> Result<Option<u64>, JobError> {
        let stop = CancellationToken::new();
        self.unclaimed(Job::Partitions, &stop, async |pieces| self.prepare_days(pieces).await.map(|()| pieces.rows()))
            .await
    }

    async fn unclaimed<T>(
        &self,
        job: Job,
        stop: &CancellationToken,
        work: impl AsyncFnOnce(&mut Pieces<'_>) -> Result<T, JobError>,
    ) -> Result<Option<T>, JobError> {
        let Some(mut session) = self.store.job_session(job.name(), job.limits(), false).await? else {
            return Ok(None);
        };
        let done = work(&mut Pieces::unclaimed(&mut session, stop)).await?;
        session.close().await;
        Ok(Some(done))
    }

    /// Keeps the clock, the horizons and the date of a read replica right, and, where `maintain` says so, runs every job at
    /// its time, until `stop`; a job that is running ends its piece.
    pub async fn run(self, maintain: bool, stop: CancellationToken) {
        let maintenance = async {
            if maintain {
                tokio::join!(self.schedule(&stop), self.fold_early_loop(&stop));
            }
        };
        let by_hand = async {
            stop.cancelled().await;
            self.by_hand_stop.cancel();
            self.by_hand.close();
            self.by_hand.wait().await;
        };
        // A look at the state and a beat may be cut off anywhere.
        let looking = stop.run_until_cancelled(self.synchronise_loop());
        let beating = stop.run_until_cancelled(self.beat_loop());
        let tidying = stop.run_until_cancelled(self.log_files_loop());
        tokio::join!(maintenance, by_hand, looking, beating, tidying);
    }

    /// Folds between two slots what this replica has written, where it is much: else a burst of records would gather in front of
    /// the questions until the next. Another replica that is at it, or an error, leaves it to the schedule.
    async fn fold_early_loop(&self, stop: &CancellationToken) {
        let mut ticks = every(self.look_every);
        while !matches!(self.config.schedules.of(Job::Fold), Schedule::Off)
            && stop.run_until_cancelled(ticks.tick()).await.is_some()
        {
            if self.store.wrote_deltas(work::MANY_DELTAS)
                && let Err(error) = self.fold(stop).await
                && !stop.is_cancelled()
            {
                tracing::warn!(error = %error, "deltas could not be folded early");
            }
        }
    }

    /// Log files are each replica's own, so each looks after its own, whichever runs the job `housekeeping`.
    async fn log_files_loop(&self) {
        let mut ticks = every(LOG_FILES_EVERY);
        while self.config.keeps.logs.is_some() {
            ticks.tick().await;
            if let Err(error) = self.remove_old_log_files().await {
                tracing::warn!(error = %error, "old log files cannot be removed");
            }
        }
    }

    /// Removes the log files of this process that are past their keep. Returns how many.
    async fn remove_old_log_files(&self) -> std::io::Result<u64> {
        let Some(LogKeep { dir, keep }) = self.config.keeps.logs.clone() else { return Ok(0) };
        let now = self.clock.now();
        tokio::task::spawn_blocking(move || logs::remove_old_log_files(&dir, keep, now)).await?
    }

    async fn synchronise_loop(&self) {
        let mut ticks = every(SYNCHRONISE_EVERY);
        let mut failing = false;
        loop {
            ticks.tick().await;
            let looked = self.synchronise().await;
            tell_once(
                &mut failing,
                &looked,
                "the state of the rollups cannot be read",
                "the state of the rollups is read again",
            );
        }
    }

    /// A loop of its own: waiting behind anything would make every replica look older than it is.
    async fn beat_loop(&self) {
        let mut ticks = every(BEAT_EVERY);
        let mut failing = false;
        while self.store.has_replica() {
            ticks.tick().await;
            let (beat, ()) = tokio::join!(self.store.beat(), self.store.look_at_replica());
            tell_once(&mut failing, &beat, "read replicas cannot be dated", "read replicas are dated again");
        }
    }
}

/// What came of asking for a job by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It runs; its run is told by this instant.
    Now(DateTime<Utc>),
    /// It was running already.
    AlreadyRunning,
}

/// Tells of a failure and of its end, once each, and not at every look.
fn tell_once(failing: &mut bool, outcome: &Result<(), StoreError>, begins: &str, ends: &str) {
    match outcome {
        Err(error) if !*failing => tracing::error!(error = %error, "{begins}"),
        Ok(()) if *failing => tracing::info!("{ends}"),
        Ok(()) | Err(_) => {}
    }
    *failing = outcome.is_err();
}

/// Ticks now and every `period`. One that is missed while work takes long is not made up for.
fn every(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
