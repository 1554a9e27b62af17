//! What each job does.

mod housekeeping;
mod retention;
mod upkeep;

use std::time::{Duration, Instant};

use chrono::{Days, TimeDelta};

use super::run::{JobError, Pieces};
use super::{Job, Jobs};

/// Deltas folded in one transaction: some 200 ms.
const FOLD_PIECE: u32 = 60_000;

/// Deltas that do not wait for the next slot. At 300,000 records/s 160,000 gathered in ten seconds; a question that has to add
/// them, and the fold that moves them, kept both processors busy for three seconds.
pub(super) const MANY_DELTAS: u64 = 10_000;

/// How soon after a fold that moved many comes the next.
const FOLD_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Until when: then the next slot is due.
const FOLD_AGAIN_WITHIN: Duration = Duration::from_secs(8);

/// Days made ahead: a week in which nobody needs to notice that the job fails.
const DAYS_AHEAD: u64 = 7;

/// How long after its end a day is left alone before it gets its btree, since late records still come in.
const SETTLING: TimeDelta = TimeDelta::hours(1);

impl Jobs {
    /// Does what there is to do for `job`.
    pub(super) async fn work(&self, job: Job, pieces: &mut Pieces<'_>) -> Result<(), JobError> {
        match job {
            Job::Fold => self.fold_often(pieces).await,
            Job::Refresh => self.refresh_if_due(pieces).await,
            Job::Partitions => self.prepare_days(pieces).await,
            Job::Retention => self.remove_expired(pieces).await,
            Job::CacheCleanup => self.sweep_cache(pieces).await,
            Job::Housekeeping => self.keep_house(pieces).await,
            Job::Analyze => self.analyze(pieces).await,
            Job::Vacuum => self.vacuum(pieces).await,
            Job::Reindex => self.reindex(pieces).await,
            Job::Verify => self.verify(pieces).await,
        }
    }

    /// Moves all deltas there are. Returns whether they were many.
    pub(super) async fn fold_all(&self, pieces: &mut Pieces<'_>) -> Result<bool, JobError> {
        let before = pieces.rows();
        loop {
            let moved = pieces.session.fold(self.clock.now().date_naive(), FOLD_PIECE).await?;
            pieces.count(moved);
            if moved < u64::from(FOLD_PIECE) {
                let were_many = pieces.rows() - before > MANY_DELTAS;
                if let Err(error) = pieces.session.tidy_deltas(were_many).await {
                    // What was to be folded is; the next fold tries again.
                    tracing::warn!(error = %error, "the room of folded deltas could not be tidied");
                    return Ok(false);
                }
                return Ok(were_many);
            }
            pieces.next("folding").await?;
        }
    }

    async fn fold_often(&self, pieces: &mut Pieces<'_>) -> Result<(), JobError> {
        let began = Instant::now();
        while self.fold_all(pieces).await? && began.elapsed() < FOLD_AGAIN_WITHIN {
            pieces.next("folding").await?;
            pieces.pause(FOLD_AGAIN_AFTER).await;
        }
        Ok(())
    }

    async fn refresh_if_due(&self, pieces: &mut Pieces<'_>) -> Result<(), JobError> {
        pieces.next("refreshing the daily view").await?;
        if let Some(stale) = pieces.session.refresh(self.clock.now().date_naive(), false).await? {
            // The day that has just closed was not stale, and has been taken in.
            pieces.count(stale.max(1));
        }
        Ok(())
    }

    pub(super) async fn prepare_days(&self, pieces: &mut Pieces<'_>) -> Result<(), JobError> {
        let now = self.clock.now();
        let days: Vec<_> = (0..=DAYS_AHEAD).map(|ahead| now.date_naive() + Days::new(ahead)).collect();
        let made = pieces.session.make_days(&days).await?;
        pieces.count(made);
        for day in pieces.session.days_without_btree((now - SETTLING).date_naive()).await? {
            pieces.next(format!("indexing {day}")).await?;
            pieces.session.build_btree(day).await?;
            pieces.count(1);
        }
        Ok(())
    }
}
