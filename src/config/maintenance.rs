//! When maintenance is done.

use std::time::Duration;

use anyhow::bail;
use clap::Args;

use super::{DataOptions, LogOptions, limited};
use crate::jobs::{Job, JobsConfig, Keeps, LogKeep, Schedule, Schedules};

/// When jobs are due, and how long is kept what only they see.
#[derive(Args, Clone)]
pub struct MaintenanceOptions {
    /// When new counts are moved into minutes and hours: a time such as 10s, a cron expression of five fields (UTC), or off
    #[arg(long, env, default_value = Job::Fold.default_schedule(), value_name = "SCHEDULE")]
    pub schedule_fold: Schedule,

    /// When the daily view is brought up to date, if a day has closed or changed
    #[arg(long, env, default_value = Job::Refresh.default_schedule(), value_name = "SCHEDULE")]
    pub schedule_refresh: Schedule,

    /// When the days ahead are made, and days that have closed get their index
    #[arg(long, env, default_value = Job::Partitions.default_schedule(), value_name = "SCHEDULE")]
    pub schedule_partitions: Schedule,

    /// When raw days, minutes and hours past their keep are removed
    #[arg(long, env, default_value = Job::Retention.default_schedule(), value_name = "SCHEDULE")]
    pub schedule_retention: Schedule,

    /// When old answers are removed from Redis
    #[arg(long, env, default_value = Job::CacheCleanup.default_schedule(), value_name = "SCHEDULE")]
    pub schedule_cache_cleanup: Schedule,

    /// When expired idempotency keys, old runs of jobs and old log files are removed
    #[arg(long, env, default_value = Job::Housekeeping.default_schedule(), value_name = "SCHEDULE")]
    pub schedule_housekeeping: Schedule,

    /// When the planner is told about the tables that changed
    #[arg(long, env, default_value = Job::Analyze.default_schedule(), value_name = "SCHEDULE")]
    pub schedule_analyze: Schedule,

    /// When rollups and open days are vacuumed
    #[arg(long, env, default_value = Job::Vacuum.default_schedule(), value_name = "SCHEDULE")]
    pub schedule_vacuum: Schedule,

    /// When the indexes of the rollups are built anew
    #[arg(long, env, default_value = Job::Reindex.default_schedule(), value_name = "SCHEDULE")]
    pub schedule_reindex: Schedule,

    /// When the rollups of the last closed day are compared with its raw requests
    #[arg(long, env, default_value = Job::Verify.default_schedule(), value_name = "SCHEDULE")]
    pub schedule_verify: Schedule,

    /// How long an idempotency key is remembered; at least 24h, 0 for ever. Those of `import` are kept for ever
    #[arg(long, env, default_value = "7d", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub retention_keys: Duration,

    /// How long runs of jobs are listed, the last of each in any case; 0 for ever
    #[arg(long, env, default_value = "7d", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub retention_job_runs: Duration,
}

impl MaintenanceOptions {
    /// What the jobs need, with the retention of `data`; the log files are those of `logs`.
    ///
    /// # Errors
    /// For keys that would be forgotten while clients still try again, and for data that would be gone by mistake.
    pub fn jobs(&self, data: &DataOptions, logs: Option<&LogOptions>) -> anyhow::Result<JobsConfig> {
        if !self.retention_keys.is_zero() && self.retention_keys < Duration::from_secs(86_400) {
            bail!(
                "RETENTION_KEYS must be at least 24h: a batch that is sent again after its key is forgotten counts twice"
            );
        }
        let logs = logs.and_then(|logs| Some(LogKeep { dir: logs.dir()?.to_owned(), keep: logs.keep() }));
        let keeps =
            Keeps { idempotency_keys: limited(self.retention_keys), job_runs: limited(self.retention_job_runs), logs };
        Ok(JobsConfig { schedules: self.schedules(), retention: data.retention()?, keeps })
    }

    /// When each job is due.
    #[must_use]
    pub fn schedules(&self) -> Schedules {
        Schedules::new(|job| match job {
            Job::Fold => self.schedule_fold.clone(),
            Job::Refresh => self.schedule_refresh.clone(),
            Job::Partitions => self.schedule_partitions.clone(),
            Job::Retention => self.schedule_retention.clone(),
            Job::CacheCleanup => self.schedule_cache_cleanup.clone(),
            Job::Housekeeping => self.schedule_housekeeping.clone(),
            Job::Analyze => self.schedule_analyze.clone(),
            Job::Vacuum => self.schedule_vacuum.clone(),
            Job::Reindex => self.schedule_reindex.clone(),
            Job::Verify => self.schedule_verify.clone(),
        })
    }
}
