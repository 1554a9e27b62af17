//! What is kept only for a while beside the data: idempotency keys, runs of jobs, log files.

use chrono::TimeDelta;

use super::super::Jobs;
use super::super::run::{JobError, Pieces};

/// Rows deleted in one transaction. An answer kept under a key may have some kilobytes.
const PIECE: u32 = 20_000;

impl Jobs {
    /// Removes what has expired.
    pub(super) async fn keep_house(&self, pieces: &mut Pieces<'_>) -> Result<(), JobError> {
        let keeps = &self.config.keeps;
        self.forget(pieces, Bookkeeping::Keys, keeps.idempotency_keys).await?;
        self.forget(pieces, Bookkeeping::Runs, keeps.job_runs).await?;
        // Those of this replica; the others look after theirs.
        let removed = self.remove_old_log_files().await;
        pieces.count(removed.map_err(|error| JobError::Failed(format!("old log files cannot be removed: {error}")))?);
        Ok(())
    }

    async fn forget(
        &self,
        pieces: &mut Pieces<'_>,
        what: Bookkeeping,
        keep: Option<TimeDelta>,
    ) -> Result<(), JobError> {
        let Some(keep) = keep else { return Ok(()) };
        let before = self.clock.now() - keep;
        loop {
            pieces.next(format!("deleting {}", what.in_words())).await?;
            let deleted = match what {
                Bookkeeping::Keys => pieces.session.delete_keys(before, PIECE).await?,
                Bookkeeping::Runs => pieces.session.delete_job_runs(before, PIECE).await?,
            };
            pieces.count(deleted);
            if deleted < u64::from(PIECE) {
                return Ok(());
            }
        }
    }
}

/// What is written down for a while.
#[derive(Clone, Copy)]
enum Bookkeeping {
    Keys,
    Runs,
}

impl Bookkeeping {
    fn in_words(self) -> &'static str {
        match self {
            Self::Keys => "idempotency keys",
            Self::Runs => "runs of jobs",
        }
    }
}
