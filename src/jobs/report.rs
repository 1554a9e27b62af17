//! What there is to say of each job: when it is due, how it went.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;
use utoipa::openapi::{ObjectBuilder, Type};

use super::{Job, Jobs};
use crate::store::{JobRun, Outcome, StoreError};

/// Runs of one job that are told: enough to see whether a failure is the first.
const RUNS_TOLD: u32 = 20;

/// All jobs.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobsAnswer {
    /// Every job, also those that are off.
    pub jobs: Vec<JobReport>,
}

/// One job and its last runs.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobAnswer {
    /// The job.
    #[serde(flatten)]
    pub job: JobReport,
    /// Its runs, at most 20, the one that was begun last first.
    pub runs: Vec<RunReport>,
}

/// A job that was asked for and is now at work.
#[derive(Debug, Serialize, ToSchema)]
pub struct StartedAnswer {
    /// Name of the job.
    #[schema(schema_with = name)]
    pub job: &'static str,
    /// The instant it was asked for, which names this run among the others. UTC.
    pub slot: DateTime<Utc>,
    /// How it stands: `running`.
    pub state: JobState,
}

/// A job.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobReport {
    /// Its name.
    #[schema(schema_with = name)]
    pub name: &'static str,
    /// What it does, in words.
    pub does: &'static str,
    /// When it is due: every so often, a cron expression (UTC), or `off`. So it is set on the replica that answers.
    #[schema(examples("every 10s", "0 1 * * *", "off"))]
    pub schedule: String,
    /// When it is due next, UTC; null where it is off.
    #[schema(required)]
    pub next_slot: Option<DateTime<Utc>>,
    /// How it stands. `interrupted`: its last run was cut off, or told to stop, and the next goes on from there.
    pub state: JobState,
    /// The run that was begun last; null where there was none.
    #[schema(required)]
    pub last: Option<RunReport>,
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It waits for its next slot.
    Idle,
    /// It is at work.
    Running,
    /// Its last run did not come to its end.
    Interrupted,
}

/// A run of a job.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunReport {
    /// When it was due or asked for. UTC.
    pub slot: DateTime<Utc>,
    /// How it ended, or that it has not.
    #[schema(schema_with = outcome)]
    pub outcome: &'static str,
    /// When it was begun, the last time. UTC.
    pub started_at: DateTime<Utc>,
    /// How long it took, milliseconds; null where it did not come to its end.
    #[schema(required)]
    pub duration_ms: Option<u64>,
    /// What it has moved, written or removed, as far as that is known.
    #[schema(required)]
    pub rows: Option<u64>,
    /// What `rows` counts, in words.
    #[schema(examples("counts moved"))]
    pub rows_are: &'static str,
    /// Why it failed; null where it did not. For the operator, in the words of whatever failed.
    #[schema(required)]
    pub error: Option<String>,
    /// How often it was begun: more than once where it failed or was cut off.
    #[schema(minimum = 1)]
    pub attempts: u32,
    /// Whether somebody asked for it.
    pub by_hand: bool,
    /// From when on it is tried again, UTC; null where it is not.
    #[schema(required)]
    pub retry_at: Option<DateTime<Utc>>,
}

/// One of the jobs there are.
fn name() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("The name of the job."))
        .enum_values(Some(Job::ALL.map(Job::name)))
        .build()
}

/// One of the outcomes there are.
fn outcome() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(
            "How it ended, or that it has not: `interrupted` where its process died or was told to stop.",
        ))
        .enum_values(Some(Outcome::ALL.map(Outcome::as_str)))
        .build()
}

impl Jobs {
    /// Every job.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn report(&self) -> Result<JobsAnswer, StoreError> {
        let runs = self.last_runs(&Job::ALL, RUNS_TOLD).await?;
        let now = self.now();
        let of = |job: Job| newest_first(runs.iter().filter(|run| run.job == job.name()));
        let jobs = Job::ALL.map(|job| self.report_of(job, &of(job), now));
        Ok(JobsAnswer { jobs: jobs.into() })
    }

    /// One job and its last runs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn report_one(&self, job: Job) -> Result<JobAnswer, StoreError> {
        let runs = self.last_runs(&[job], RUNS_TOLD).await?;
        let runs = newest_first(runs.iter());
        let told = runs.iter().map(|run| told(job, run)).collect();
        Ok(JobAnswer { job: self.report_of(job, &runs, self.now()), runs: told })
    }

    fn report_of(&self, job: Job, runs: &[&JobRun], now: DateTime<Utc>) -> JobReport {
        let schedule = self.schedules().of(job);
        JobReport {
            name: job.name(),
            does: job.does(),
            schedule: schedule.to_string(),
            next_slot: schedule.next_after(now),
            state: state(runs),
            last: runs.first().map(|run| told(job, run)),
        }
    }
}

/// By when they were begun: a slot that was taken up again is later than what was asked for by hand in between.
fn newest_first<'r>(runs: impl Iterator<Item = &'r JobRun>) -> Vec<&'r JobRun> {
    let mut runs: Vec<_> = runs.collect();
    runs.sort_by_key(|run| std::cmp::Reverse((run.started_at, run.slot)));
    runs
}

fn state(runs: &[&JobRun]) -> JobState {
    match runs.first().map(|run| run.outcome) {
        Some(Outcome::Running) => JobState::Running,
        Some(Outcome::Interrupted) => JobState::Interrupted,
        Some(Outcome::Succeeded | Outcome::Failed) | None => JobState::Idle,
    }
}

fn told(job: Job, run: &JobRun) -> RunReport {
    RunReport {
        slot: run.slot,
        outcome: run.outcome.as_str(),
        started_at: run.started_at,
        duration_ms: run.duration_ms,
        rows: run.rows,
        rows_are: job.rows_are(),
        error: run.error.clone(),
        attempts: run.attempts,
        by_hand: run.by_hand,
        retry_at: run.retry_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_last_says_how_a_job_stands() {
        let run = |slot: &str, started_at: &str, outcome| JobRun {
            job: "fold".to_owned(),
            slot: slot.parse().unwrap(),
            outcome,
            rows: None,
            duration_ms: None,
            error: None,
            attempts: 1,
            started_at: started_at.parse().unwrap(),
            by_hand: false,
            retry_at: None,
        };
        let by_hand = run("2026-11-21T10:20:35Z", "2026-11-21T10:20:35Z", Outcome::Succeeded);
        let taken_up = run("2026-11-21T10:20:30Z", "2026-11-21T10:20:41Z", Outcome::Running);
        let told = newest_first([&by_hand, &taken_up].into_iter());
        assert_eq!((told[0].slot, state(&told)), (taken_up.slot, JobState::Running));
        let cut_off = run("2026-11-21T10:20:40Z", "2026-11-21T10:20:50Z", Outcome::Interrupted);
        assert_eq!(state(&newest_first([&by_hand, &cut_off].into_iter())), JobState::Interrupted);
        assert_eq!(state(&[&by_hand]), JobState::Idle);
        assert_eq!(state(&[]), JobState::Idle);
    }
}
