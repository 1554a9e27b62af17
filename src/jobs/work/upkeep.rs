//! Statistics, dead rows, indexes, old answers, and whether the rollups are right.

use chrono::Days;

use super::super::run::{JobError, Pieces};
use crate::cache::SweepError;
use crate::jobs::Jobs;

/// Differences that are counted: more would say nothing new.
const DIFFERENCES: u32 = 100;

impl Jobs {
    /// Tells the planner about the tables that changed.
    pub(super) async fn analyze(&self, pieces: &mut Pieces<'_>) -> Result<(), JobError> {
        for table in pieces.session.tables_to_analyze().await? {
            pieces.next(format!("analyzing {}", table.name)).await?;
            pieces.session.keep_up(&table).await?;
            pieces.count(1);
        }
        Ok(())
    }

    /// Vacuums the rollups and the days that are open: yesterday's is, since late records still come in.
    pub(super) async fn vacuum(&self, pieces: &mut Pieces<'_>) -> Result<(), JobError> {
        let open = self.clock.now().date_naive() - Days::new(1);
        for table in pieces.session.tables_to_vacuum(open).await? {
            pieces.next(format!("vacuuming {}", table.name)).await?;
            pieces.session.keep_up(&table).await?;
            pieces.count(1);
        }
        Ok(())
    }

    /// Builds the indexes of the rollups anew.
    pub(super) async fn reindex(&self, pieces: &mut Pieces<'_>) -> Result<(), JobError> {
        for index in pieces.session.indexes_to_rebuild().await? {
            pieces.next(format!("rebuilding {}", index.name)).await?;
            pieces.session.keep_up(&index).await?;
            pieces.count(1);
        }
        Ok(())
    }

    /// Removes answers from Redis that nobody will ask for again.
    pub(super) async fn sweep_cache(&self, pieces: &mut Pieces<'_>) -> Result<(), JobError> {
        let Some(cache) = &self.cache else { return Ok(()) };
        let away = |error: SweepError| JobError::Failed(error.to_string());
        let mut sweep = cache.sweep(self.store.generation()).await.map_err(away)?;
        while let Some(swept) = sweep.piece().await.map_err(away)? {
            pieces.count(swept.removed - pieces.rows());
            pieces.next(format!("looked at {} keys", swept.seen)).await?;
        }
        Ok(())
    }

    /// Compares the rollups of the last closed day with its raw requests. A difference is a failure that no second try
    /// changes.
    pub(super) async fn verify(&self, pieces: &mut Pieces<'_>) -> Result<(), JobError> {
        let day = self.clock.now().date_naive() - Days::new(1);
        if self.store.horizons().raw_since.is_some_and(|since| day < since.date_naive()) {
            // With less than a day of raw requests kept there is nothing to compare with.
            return Ok(());
        }
        pieces.next(format!("comparing {day}")).await?;
        let differences = pieces.session.verify_day(day, DIFFERENCES).await?;
        pieces.count(differences.len() as u64);
        match differences.first() {
            None => Ok(()),
            Some(first) => Err(JobError::Found(format!(
                "{} differences on {day}, the first: {first}; `endpoint-stats verify` lists them",
                differences.len()
            ))),
        }
    }
}
