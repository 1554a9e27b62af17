//! Statistics, dead rows, indexes, old answers, and whether the rollups are right.

use chrono::Days;

use super::super::run::{JobError, Pieces};
use crate::cache::SweepError;
use crate::jobs::Jobs;
use crate::store::Upkeep;

/// Differences that are counted: more would say nothing new.
const DIFFERENCES: u32 = 100;

impl Jobs {
    /// Tells the planner about the tables that changed.
    pub(super) async fn analyze(&self, pieces: &mut Pieces<'_>) -> Result<(), JobError> {
        let tables = pieces.session.tables_to_analyze().await?;
        each(pieces, "analyzing", tables).await
    }

    /// Vacuums the rollups and the days that are open: yesterday's is, since late records still come in.
    pub(super) async fn vacuum(&self, pieces: &mut Pieces<'_>) -> Result<(), JobError> {
        let open = self.clock.now().date_naive() - Days::new(1);
        let tables = pieces.session.tables_to_vacuum(open).await?;
        each(pieces, "vacuuming", tables).await
    }

    /// Builds the indexes of the rollups anew.
    pub(super) async fn reindex(&self, pieces: &mut Pieces<'_>) -> Result<(), JobError> {
        let indexes = pieces.session.indexes_to_rebuild().await?;
        each(pieces, "rebuilding", indexes).await
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
        let horizons = self.store.horizons();
        if [horizons.raw_since, horizons.hours_since].iter().flatten().any(|since| day < since.date_naive()) {
            // With less than a day of them kept there is nothing to compare.
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

/// Does each piece of upkeep. One that fails (a table that has gone meanwhile, one that is damaged) keeps none of the others
/// from being done, and fails the run at its end.
async fn each(pieces: &mut Pieces<'_>, doing: &str, upkeep: Vec<Upkeep>) -> Result<(), JobError> {
    let mut failed = Vec::new();
    for upkeep in upkeep {
        // Fails where the session itself is lost.
        pieces.next(format!("{doing} {}", upkeep.name)).await?;
        match pieces.session.keep_up(&upkeep).await {
            Ok(()) => pieces.count(1),
            Err(error) => failed.push(format!("{doing} {}: {error}", upkeep.name)),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(JobError::Failed(failed.join("; "))) }
}
