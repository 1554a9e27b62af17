//! The jobs: one table of what they are called, what they do, and how they are run.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Schedule;
use crate::store::SessionLimits;

/// A kind of maintenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Job {
    /// Deltas into minutes and hours.
    Fold,
    /// The daily view.
    Refresh,
    /// Days ahead, and the btree of days that have closed.
    Partitions,
    /// What is past its keep.
    Retention,
    /// Old answers in Redis.
    CacheCleanup,
    /// Idempotency keys, runs of jobs, log files.
    Housekeeping,
    /// Planner statistics.
    Analyze,
    /// Dead rows.
    Vacuum,
    /// Indexes anew.
    Reindex,
    /// Rollups against raw requests.
    Verify,
}

/// A name that no job has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no job of that name; the jobs are {}", Job::ALL.map(Job::name).join(", "))]
pub struct NoSuchJob;

impl Job {
    /// Every job, in the order in which they are told.
    pub const ALL: [Self; 10] = [
        Self::Fold,
        Self::Refresh,
        Self::Partitions,
        Self::Retention,
        Self::CacheCleanup,
        Self::Housekeeping,
        Self::Analyze,
        Self::Vacuum,
        Self::Reindex,
        Self::Verify,
    ];

    /// Its name everywhere.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fold => "fold",
            Self::Refresh => "refresh",
            Self::Partitions => "partitions",
            Self::Retention => "retention",
            Self::CacheCleanup => "cache_cleanup",
            Self::Housekeeping => "housekeeping",
            Self::Analyze => "analyze",
            Self::Vacuum => "vacuum",
            Self::Reindex => "reindex",
            Self::Verify => "verify",
        }
    }

    /// What it does, in words.
    #[must_use]
    pub fn does(self) -> &'static str {
        match self {
            Self::Fold => "moves new counts into minutes and hours",
            Self::Refresh => "brings the daily view up to date if a day has closed or changed",
            Self::Partitions => "makes the days ahead, and gives days that have closed their index",
            Self::Retention => "drops raw days and deletes minutes and hours that are past their keep",
            Self::CacheCleanup => "removes answers from Redis that nobody will ask for again",
            Self::Housekeeping => "removes expired idempotency keys, old runs of jobs, and old log files",
            Self::Analyze => "tells the planner about the tables that changed",
            Self::Vacuum => "vacuums the rollups and the open days",
            Self::Reindex => "builds the indexes of the rollups anew, one at a time",
            Self::Verify => "compares the rollups of the last closed day with its raw requests",
        }
    }

    /// What its rows are, for people.
    #[must_use]
    pub fn rows_are(self) -> &'static str {
        match self {
            Self::Fold => "counts moved",
            Self::Refresh => "days refreshed",
            Self::Partitions => "days made or indexed",
            Self::Retention => "rows and days removed",
            Self::CacheCleanup => "keys removed",
            Self::Housekeeping => "rows and files removed",
            Self::Analyze | Self::Vacuum => "tables",
            Self::Reindex => "indexes",
            Self::Verify => "differences",
        }
    }

    /// When it is due unless an option says otherwise, UTC. Those that work hard are spread over the small hours.
    #[must_use]
    pub fn default_schedule(self) -> &'static str {
        match self {
            Self::Fold => "10s",
            // Also five minutes after midnight, when a day has closed.
            Self::Refresh => "5-59/15 * * * *",
            Self::Partitions => "0 * * * *",
            Self::Retention => "0 1 * * *",
            Self::CacheCleanup => "0 2 * * *",
            Self::Housekeeping => "30 2 * * *",
            Self::Analyze => "10 3 * * *",
            Self::Vacuum => "30 3 * * SUN",
            Self::Reindex => "0 4 1 * *",
            Self::Verify => "0 5 * * *",
        }
    }

    /// Whether it runs as soon as a service is started on a new database. The others wait for their first slot: there is
    /// nothing for them yet.
    pub(super) fn begins_at_once(self) -> bool {
        matches!(self, Self::Fold | Self::Refresh | Self::Partitions)
    }

    /// Whether it runs beside others. The rest take turns, so that maintenance does not ask more of Postgres than one busy
    /// connection and the three that keep answers fresh.
    pub(super) fn has_its_own_lane(self) -> bool {
        self.begins_at_once()
    }

    /// How long a run may take in all.
    pub(super) fn deadline(self) -> Duration {
        match self {
            Self::Fold => Duration::from_secs(120),
            Self::Refresh => Duration::from_secs(15 * 60),
            Self::CacheCleanup | Self::Housekeeping => Duration::from_secs(3_600),
            Self::Partitions | Self::Retention | Self::Analyze | Self::Verify => Duration::from_secs(2 * 3_600),
            Self::Vacuum | Self::Reindex => Duration::from_secs(6 * 3_600),
        }
    }

    /// How long its statements may take and wait.
    pub(super) fn limits(self) -> SessionLimits {
        let (statement, lock) = match self {
            // A hundred times what a piece takes, and what it may have to wait for a refresh. Not longer: a line that went dead
            // keeps a replica that is alone from folding.
            Self::Fold => (40, 30_000),
            Self::Refresh => (600, 10_000),
            // An index over a day of 86 million requests, or a day of them counted, takes about two minutes.
            Self::Partitions | Self::Verify => (20 * 60, 1_000),
            Self::Retention | Self::Housekeeping => (60, 1_000),
            Self::CacheCleanup => (10, 1_000),
            Self::Analyze => (20 * 60, 1_000),
            Self::Vacuum | Self::Reindex => (2 * 3_600, 1_000),
        };
        SessionLimits { statement: Duration::from_secs(statement), lock: Duration::from_millis(lock) }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Job {
    type Err = NoSuchJob;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|job| job.name() == name).ok_or(NoSuchJob)
    }
}

/// When each job is due.
#[derive(Debug, Clone)]
pub struct Schedules([Schedule; Job::ALL.len()]);

impl Schedules {
    /// As `of` says for each job.
    #[must_use]
    pub fn new(of: impl FnMut(Job) -> Schedule) -> Self {
        Self(Job::ALL.map(of))
    }

    /// When `job` is due.
    #[must_use]
    pub fn of(&self, job: Job) -> &Schedule {
        &self.0[job as usize]
    }
}

impl Default for Schedules {
    fn default() -> Self {
        // A test holds them to be well written.
        Self::new(|job| job.default_schedule().parse().unwrap_or(Schedule::Off))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_found_by_its_name_and_its_place() {
        for (place, job) in Job::ALL.into_iter().enumerate() {
            assert_eq!(job.name().parse(), Ok(job));
            assert_eq!(job as usize, place);
        }
        assert!(NoSuchJob.to_string().ends_with(
            "are fold, refresh, partitions, retention, cache_cleanup, housekeeping, analyze, vacuum, reindex, verify"
        ));
    }

    #[test]
    fn every_schedule_that_holds_by_itself_is_one() {
        for job in Job::ALL {
            assert!(!matches!(Schedules::default().of(job), Schedule::Off), "{job}");
        }
    }
}
