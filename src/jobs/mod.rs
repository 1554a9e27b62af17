//! Maintenance: fold, refresh, partitions.
//!
//! Owns: what each job does and when. Uses: `store`, `domain`.
//!
//! Each job reads from the database what there is to do, so it needs no input, may run at any time and any number of times,
//! and the next tick is its retry. Each runs under an advisory lock of the store: of several replicas one performs it, the
//! others skip. A job that has much to do does it in pieces, and stops between two of them when told to.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Days, DurationRound as _, TimeDelta, Utc};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::domain::Clock;
use crate::store::{Attempt, FoldedDeltas, Horizons, Store, StoreError};

/// Deltas folded in one transaction: some 200 ms.
const FOLD_PIECE: u32 = 60_000;

/// How often deltas are folded: few enough wait that reading them costs a question nothing that shows.
const FOLD_EVERY: Duration = Duration::from_secs(10);

/// A fold that moved more than this is followed by the next one sooner: at 650,000 records/s some 250,000 deltas gather in
/// [`FOLD_EVERY`], and a question that has to add them took 0.45 s instead of 6 ms.
const MANY_DELTAS: u64 = 20_000;

/// How much sooner.
const FOLD_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How often it is looked whether the daily view has something to catch up with.
const REFRESH_EVERY: Duration = Duration::from_secs(5 * 60);

/// How often days are made ahead.
const PARTITIONS_EVERY: Duration = Duration::from_secs(60 * 60);

/// Days made ahead: a week in which nobody needs to notice that the job fails.
const DAYS_AHEAD: u64 = 7;

/// How often the primary is given an instant that read replicas are dated by; so an answer of theirs is about so much older
/// than it would have to be.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// How long after its end a day is left alone before it gets its btree, since late records still come in.
const SETTLING: TimeDelta = TimeDelta::hours(1);

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
        }
    }
}

/// The jobs of one replica.
#[derive(Clone)]
pub struct Jobs {
    store: Arc<Store>,
    clock: Clock,
    retention: Retention,
}

impl Jobs {
    /// The jobs on `store`.
    #[must_use]
    pub fn new(store: Arc<Store>, clock: Clock, retention: Retention) -> Self {
        Self { store, clock, retention }
    }

    /// Corrects the clock by the database's, learns from when on data is kept, and moves that on as the retention says.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn synchronise(&self) -> Result<(), StoreError> {
        self.learn().await?;
        self.store.advance_horizons(self.retention.horizons(self.clock.now())).await?;
        Ok(())
    }

    /// The same for a visitor, who may have been started with another retention than the service: what the service keeps
    /// stays as it is. Only a database that no service has used yet gets the visitor's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn synchronise_as_visitor(&self) -> Result<(), StoreError> {
        if self.learn().await? == Horizons::default() { self.synchronise().await } else { Ok(()) }
    }

    async fn learn(&self) -> Result<Horizons, StoreError> {
        let (held, database_time) = self.store.advance_horizons(Horizons::default()).await?;
        self.clock.follow(database_time);
        Ok(held)
    }

    /// Moves all deltas there are into minutes and hours. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`]; whole pieces may have been moved.
    pub async fn fold(&self, stop: &CancellationToken) -> Result<Attempt<FoldedDeltas>, StoreError> {
        let mut moved = 0;
        loop {
            match self.store.fold(self.clock.now().date_naive(), FOLD_PIECE).await? {
                Attempt::Skipped => return Ok(Attempt::Skipped),
                Attempt::Performed(FoldedDeltas(piece)) => {
                    moved += piece;
                    if piece < u64::from(FOLD_PIECE) || stop.is_cancelled() {
                        return Ok(Attempt::Performed(FoldedDeltas(moved)));
                    }
                }
            }
        }
    }

    /// Brings the daily view up to date if a day has closed or is stale; with `always`, in any case. Returns whether it did.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn refresh(&self, always: bool) -> Result<Attempt<bool>, StoreError> {
        self.store.refresh(self.clock.now().date_naive(), always).await
    }

    /// Makes the partitions of the days ahead, and gives closed days their btree. Returns how many of each.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn partitions(&self) -> Result<Attempt<(u64, u64)>, StoreError> {
        let now = self.clock.now();
        let days: Vec<_> = (0..=DAYS_AHEAD).map(|ahead| now.date_naive() + Days::new(ahead)).collect();
        self.store.prepare_days(&days, (now - SETTLING).date_naive()).await
    }

    /// Keeps the clock, the horizons and the date of a read replica right, and, where `maintain` says so, runs every job at
    /// its time, until `stop`; a job that is running ends its piece. Each job has a loop of its own: building an index for
    /// minutes must not keep deltas from being folded.
    pub async fn run(self, maintain: bool, stop: CancellationToken) {
        let maintenance = async {
            if maintain {
                tokio::join!(self.refresh_loop(&stop), self.partitions_loop(&stop));
            }
        };
        // A beat may be cut off anywhere.
        tokio::join!(self.fold_loop(maintain, &stop), maintenance, stop.run_until_cancelled(self.beat_loop()));
    }

    /// A loop of its own: waiting behind a fold would make every replica look older than it is.
    async fn beat_loop(&self) {
        let mut ticks = every(BEAT_EVERY);
        let mut failing = false;
        while self.store.has_replica() {
            ticks.tick().await;
            let (beat, ()) = tokio::join!(self.store.beat(), self.store.look_at_replica());
            match &beat {
                // Told once, not every second.
                Err(error) if !failing => tracing::error!(error = %error, "read replicas cannot be dated"),
                Ok(()) if failing => tracing::info!("read replicas are dated again"),
                Ok(()) | Err(_) => {}
            }
            failing = beat.is_err();
        }
    }

    async fn refresh_loop(&self, stop: &CancellationToken) {
        let mut ticks = every(REFRESH_EVERY);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            log("refresh", self.refresh(false).await);
        }
    }

    async fn partitions_loop(&self, stop: &CancellationToken) {
        let mut ticks = every(PARTITIONS_EVERY);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            log("partitions", self.partitions().await);
        }
    }

    async fn fold_loop(&self, maintain: bool, stop: &CancellationToken) {
        let mut again_after = Duration::ZERO;
        while stop.run_until_cancelled(tokio::time::sleep(again_after)).await.is_some() {
            again_after = FOLD_EVERY;
            log("synchronise", self.synchronise().await.map(Attempt::Performed));
            if maintain {
                let folded = self.fold(stop).await;
                if matches!(folded, Ok(Attempt::Performed(FoldedDeltas(moved))) if moved > MANY_DELTAS) {
                    again_after = FOLD_AGAIN_AFTER;
                }
                log("fold", folded);
            }
        }
    }
}

/// Ticks now and every `period`. One that is missed while a job takes long is not made up for: the job did then what there
/// was to do.
fn every(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// A failed job is told once, here; its next tick tries again.
fn log<T: std::fmt::Debug>(job: &str, attempt: Result<Attempt<T>, StoreError>) {
    match attempt {
        Ok(outcome) => tracing::debug!(job, ?outcome, "job"),
        Err(error) => tracing::error!(job, error = %error, "a job failed"),
    }
}
