//! A slot is run once, whoever runs it, and what was cut off is finished.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use endpoint_stats::jobs::{Begun, Job, Jobs, Run};
use endpoint_stats::store::Outcome;
use tokio_util::sync::CancellationToken;

use crate::harness::{TestApp, at};

async fn begin(jobs: &Jobs, job: Job) -> Begun {
    jobs.begin(job, false).await.expect("Postgres answers")
}

async fn won(jobs: &Jobs, job: Job) -> Box<Run> {
    match begin(jobs, job).await {
        Begun::Won(run) => run,
        Begun::Held => panic!("{job} is held"),
        Begun::Settled => panic!("{job} is settled"),
        Begun::Waiting(until) => panic!("{job} waits until {until}"),
    }
}

async fn perform(run: Box<Run>) -> DateTime<Utc> {
    let ended = run.perform(&CancellationToken::new(), None).await;
    assert_eq!(ended.ending.outcome, Outcome::Succeeded, "{:?}", ended.ending.error);
    ended.slot
}

#[tokio::test]
async fn a_slot_is_run_once_and_the_next_is_another() {
    let app = TestApp::start().await;
    let slot = perform(won(&app.jobs, Job::Fold).await).await;
    assert_eq!(slot, at("2026-11-21T10:20:30Z"));
    assert!(matches!(begin(&app.jobs, Job::Fold).await, Begun::Settled));
    app.clock.advance(TimeDelta::milliseconds(9_999));
    assert!(matches!(begin(&app.jobs, Job::Fold).await, Begun::Settled));
    app.clock.advance(TimeDelta::milliseconds(1));
    assert_eq!(perform(won(&app.jobs, Job::Fold).await).await, at("2026-11-21T10:20:40Z"));
}

#[tokio::test]
async fn while_one_replica_runs_a_job_the_others_do_not() {
    let app = TestApp::start().await;
    let run = won(&app.jobs, Job::Fold).await;
    assert!(matches!(begin(&app.jobs, Job::Fold).await, Begun::Held));
    // Another job is another matter.
    perform(won(&app.jobs, Job::Refresh).await).await;
    perform(run).await;
    assert!(matches!(begin(&app.jobs, Job::Fold).await, Begun::Settled));
}

#[tokio::test]
async fn of_slots_that_went_by_the_last_is_made_up_for_once() {
    let app = TestApp::start().await;
    perform(won(&app.jobs, Job::Refresh).await).await;
    app.clock.advance(TimeDelta::days(3));
    assert_eq!(perform(won(&app.jobs, Job::Refresh).await).await, at("2026-11-24T10:20:00Z"));
    assert!(matches!(begin(&app.jobs, Job::Refresh).await, Begun::Settled));
}

#[tokio::test]
async fn a_job_that_can_wait_begins_with_its_next_slot_on_a_new_database() {
    let app = TestApp::start().await;
    assert!(matches!(begin(&app.jobs, Job::Verify).await, Begun::Settled));
    app.clock.advance(TimeDelta::days(1));
    assert_eq!(perform(won(&app.jobs, Job::Verify).await).await, at("2026-11-22T05:00:00Z"));
}

#[tokio::test]
async fn a_run_that_was_cut_off_is_finished_before_the_next_slot_begins() {
    let app = TestApp::start().await;
    let run = won(&app.jobs, Job::Fold).await;
    app.clock.advance(TimeDelta::seconds(10));
    assert!(matches!(begin(&app.jobs, Job::Fold).await, Begun::Held));
    // As of a process that is killed: its socket closes and nothing more is said.
    drop(run);
    let slot = loop {
        match begin(&app.jobs, Job::Fold).await {
            Begun::Won(run) => break perform(run).await,
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    assert_eq!(slot, at("2026-11-21T10:20:30Z"));
    assert_eq!(perform(won(&app.jobs, Job::Fold).await).await, at("2026-11-21T10:20:40Z"));
    let runs = app.jobs.last_runs(&[Job::Fold], 10).await.unwrap();
    let told: Vec<_> = runs.iter().map(|run| (run.slot, run.outcome, run.attempts)).collect();
    let expected =
        [(at("2026-11-21T10:20:40Z"), Outcome::Succeeded, 1), (at("2026-11-21T10:20:30Z"), Outcome::Succeeded, 2)];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_replica_whose_clock_is_behind_runs_nothing_that_is_over() {
    let app = TestApp::start().await;
    perform(won(&app.jobs, Job::Fold).await).await;
    app.clock.set(at("2026-11-21T10:20:25Z"));
    assert!(matches!(begin(&app.jobs, Job::Fold).await, Begun::Settled));
}
