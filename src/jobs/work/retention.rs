//! What is past its keep goes.
//!
//! The horizons in the database decide what that is, never the options: a question reads them in its own snapshot and tells
//! nothing of what lies before, so that to delete it changes no answer. Services move them on every two seconds; here they are
//! only obeyed, so that a run in a terminal, where other options may hold, deletes nothing that the service keeps.
//!
//! Days that the daily view has beside the hours are not touched here: the refresh that follows the next midnight makes it
//! anew from the hours there are, also where no record comes in, and until then no question asks it for them.

use std::time::Duration;

use super::super::Jobs;
use super::super::run::{JobError, Pieces};
use crate::store::Rollup;

/// Rows of a rollup deleted in one transaction: some 250 ms, for which a fold waits only if it writes one of them.
const PIECE: u32 = 20_000;

/// How often a day is tried that somebody uses, some ten seconds in all: longer than any question takes. What takes longer,
/// such as a dump, is waited for by the next run.
const TRIES: u32 = 8;

/// How long it is left alone between two.
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

impl Jobs {
    /// Drops raw days, deletes minutes and hours.
    pub(super) async fn remove_expired(&self, pieces: &mut Pieces<'_>) -> Result<(), JobError> {
        let before = pieces.session.kept_bytes().await?;
        // First what gives room back, in case there is none: deleting rows needs some.
        let (days, in_use) = self.drop_days(pieces).await?;
        let minutes = self.delete_rows(pieces, Rollup::Minutes).await?;
        let hours = self.delete_rows(pieces, Rollup::Hours).await?;
        let after = pieces.session.kept_bytes().await?;
        tracing::info!(
            days,
            minutes,
            hours,
            bytes_before = before.total(),
            bytes_after = after.total(),
            raw_bytes_before = before.requests,
            raw_bytes_after = after.requests,
            "retention freed"
        );
        let freed = in_words(before.total().saturating_sub(after.total()));
        pieces.next(format!("freed {freed}: {days} days, {minutes} minutes, {hours} hours")).await?;
        match in_use {
            None => Ok(()),
            Some(day) => Err(JobError::Failed(format!(
                "{day} could not be dropped: somebody has been at work on requests for too long, such as a transaction left open or a dump"
            ))),
        }
    }

    /// Returns how many, and the one that is in use.
    async fn drop_days(&self, pieces: &mut Pieces<'_>) -> Result<(u64, Option<String>), JobError> {
        let (mut dropped, mut tries) = (0, 0);
        while let Some(day) = pieces.session.expired_day().await? {
            pieces.next(format!("dropping {}", day.name)).await?;
            if pieces.session.drop_day(&day).await? {
                pieces.count(1);
                (dropped, tries) = (dropped + 1, 0);
                continue;
            }
            tries += 1;
            if tries == TRIES {
                return Ok((dropped, Some(day.name)));
            }
            pieces.pause(BETWEEN_TRIES).await;
        }
        Ok((dropped, None))
    }

    async fn delete_rows(&self, pieces: &mut Pieces<'_>, rollup: Rollup) -> Result<u64, JobError> {
        let what = match rollup {
            Rollup::Minutes => "minutes",
            Rollup::Hours => "hours",
        };
        let (mut all, mut through) = (0, None);
        loop {
            pieces.next(format!("deleting {what}")).await?;
            let (deleted, reached) = pieces.session.delete_expired(rollup, through, PIECE).await?;
            pieces.count(deleted);
            all += deleted;
            through = reached;
            if deleted < u64::from(PIECE) {
                break;
            }
        }
        if all > u64::from(PIECE) {
            pieces.next(format!("vacuuming {what}")).await?;
            pieces.session.vacuum(rollup).await?;
        }
        Ok(all)
    }
}

/// Bytes as people read them.
fn in_words(bytes: u64) -> String {
    let units = ["bytes", "kB", "MB", "GB", "TB"];
    let thousands = (bytes.max(1).ilog10() / 3).min(4);
    let unit = units[thousands as usize];
    if thousands == 0 {
        format!("{bytes} {unit}")
    } else {
        format!("{:.1} {unit}", bytes as f64 / 1e3f64.powi(thousands as i32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_in_the_unit_that_fits() {
        let told = [0, 999, 1_000, 1_234_567_890, 98_765_432_109_876, u64::MAX].map(in_words);
        assert_eq!(told, ["0 bytes", "999 bytes", "1.0 kB", "1.2 GB", "98.8 TB", "18446744.1 TB"]);
    }
}
