//! What is kept only for a while beside the data: idempotency keys, runs of jobs, log files.

use super::super::Jobs;
use super::super::run::{JobError, Pieces};

/// Rows deleted in one transaction. An answer kept under a key may have some kilobytes.
const PIECE: u32 = 20_000;

impl Jobs {
    /// Removes what has expired.
    pub(super) async fn keep_house(&self, pieces: &mut Pieces<'_>) -> Result<(), JobError> {
        self.forget_keys(pieces).await?;
        self.forget_runs(pieces).await?;
        // Those of this replica; the others look after theirs.
        let removed = self.remove_old_log_files().await;
        pieces.count(removed.map_err(|error| JobError::Failed(format!("old log files cannot be removed: {error}")))?);
        Ok(())
    }

    async fn forget_keys(&self, pieces: &mut Pieces<'_>) -> Result<(), JobError> {
        let Some(keep) = self.config.keeps.idempotency_keys else { return Ok(()) };
        let before = self.clock.now() - keep;
        loop {
            pieces.next("deleting idempotency keys").await?;
            let deleted = pieces.session.delete_keys(before, PIECE).await?;
            pieces.count(deleted);
            if deleted < u64::from(PIECE) {
                return Ok(());
            }
        }
    }

    async fn forget_runs(&self, pieces: &mut Pieces<'_>) -> Result<(), JobError> {
        let Some(keep) = self.config.keeps.job_runs else { return Ok(()) };
        let before = self.clock.now() - keep;
        loop {
            pieces.next("deleting runs of jobs").await?;
            let deleted = pieces.session.delete_job_runs(before, PIECE).await?;
            pieces.count(deleted);
            if deleted < u64::from(PIECE) {
                return Ok(());
            }
        }
    }
}
