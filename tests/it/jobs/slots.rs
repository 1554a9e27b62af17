//! A slot is run once, whoever runs it, and what was cut off is finished.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use endpoint_stats::jobs::{Begun, Job, Jobs, Run};
use endpoint_stats::store::Outcome;
use tokio_util::sync::CancellationToken;

use super::fleet::{only, scheduled};
use crate::harness::{TestApp, at, until};

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

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_ask_at_once_one_gets_the_slot() {
    let app = TestApp::start().await;
    for _ in 0..5 {
        let asking: Vec<_> = (0..8)
            .map(|_| {
                let jobs = app.jobs.clone();
                tokio::spawn(async move { begin(&jobs, Job::Fold).await })
            })
            .collect();
        let mut runs = Vec::new();
        for asked in asking {
            runs.extend(match asked.await.unwrap() {
                Begun::Won(run) => Some(run),
                Begun::Held | Begun::Settled | Begun::Waiting(_) => None,
            });
        }
        assert_eq!(runs.len(), 1);
        perform(runs.remove(0)).await;
        app.clock.advance(TimeDelta::seconds(10));
    }
}

#[tokio::test]
async fn what_is_asked_for_by_hand_at_the_instant_of_a_slot_is_a_run_of_its_own() {
    let app = TestApp::start().await;
    let by_hand = async || match app.jobs.begin(Job::Fold, true).await.unwrap() {
        Begun::Won(run) => perform(run).await,
        _ => panic!("nobody else is at it"),
    };
    let slot = perform(won(&app.jobs, Job::Fold).await).await;
    let microsecond = TimeDelta::microseconds(1);
    assert_eq!([by_hand().await, by_hand().await], [slot + microsecond, slot + microsecond * 2]);
    app.clock.advance(TimeDelta::seconds(3));
    // Never a full second, which a slot may be that comes later.
    assert_eq!(by_hand().await, slot + TimeDelta::seconds(3) + microsecond);
    app.clock.set(slot + TimeDelta::seconds(10));
    assert_eq!(perform(won(&app.jobs, Job::Fold).await).await, slot + TimeDelta::seconds(10));
}

/// The session with which a run was begun, ended by Postgres.
async fn end_session(app: &TestApp) {
    let end = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
               WHERE datname = current_database() AND application_name = 'endpoint-stats job fold'";
    assert_eq!(app.database.number(end).await, 1);
}

#[tokio::test]
async fn a_run_that_loses_its_session_fails_and_is_tried_again_after_a_minute() {
    let app = TestApp::start().await;
    // The next slot is far away.
    let jobs = scheduled(app.database.url(), app.clock.clock(), only(Job::Fold, "0 * * * *"));
    let run = won(&jobs, Job::Fold).await;
    end_session(&app).await;
    let ended = run.perform(&CancellationToken::new(), None).await;
    assert_eq!(ended.ending.outcome, Outcome::Failed);
    let minute = app.clock.now() + TimeDelta::minutes(1);
    assert!(matches!(begin(&jobs, Job::Fold).await, Begun::Waiting(until) if until == minute));
    app.clock.set(minute);
    assert_eq!(perform(won(&jobs, Job::Fold).await).await, at("2026-11-21T10:00:00Z"));

    // What was asked for by hand is not: who asked is told, and asks again.
    let Begun::Won(run) = jobs.begin(Job::Fold, true).await.unwrap() else { panic!("nobody else is at it") };
    end_session(&app).await;
    run.perform(&CancellationToken::new(), None).await;
    let last = &jobs.last_runs(&[Job::Fold], 1).await.unwrap()[0];
    assert_eq!((last.by_hand, last.outcome, last.retry_at), (true, Outcome::Failed, None));
}

/// Who has lost its session says how its run ended, just while another asks for the slot.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_whose_end_is_written_down_while_it_is_asked_for_is_told_as_it_ended() {
    let app = TestApp::start().await;
    drop(won(&app.jobs, Job::Fold).await);
    app.clock.advance(TimeDelta::seconds(10));
    let other = app.database.connect().await;
    let retry = app.clock.now() + TimeDelta::minutes(1);
    let ends = ["outcome = 'succeeded'".to_owned(), format!("outcome = 'failed', retry_at = '{retry}'")];
    for end in ends {
        let run = format!("UPDATE job_runs SET {end} WHERE job = 'fold' AND outcome = 'running'");
        other.batch_execute(&format!("BEGIN; {run}")).await.unwrap();
        let asking = tokio::spawn({
            let jobs = app.jobs.clone();
            async move {
                loop {
                    match begin(&jobs, Job::Fold).await {
                        Begun::Held => tokio::task::yield_now().await,
                        begun => break begun,
                    }
                }
            }
        });
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        until("it waits for the row", async || app.database.number(waiting).await == 1).await;
        other.batch_execute("COMMIT").await.unwrap();
        // That run is over, so the slot that was asked for is next; as if its process died, too, for the second round.
        let Begun::Won(run) = asking.await.unwrap() else { panic!("{end}: the slot is there to be run") };
        assert_eq!(run.slot(), app.clock.now());
        drop(run);
        app.clock.advance(TimeDelta::seconds(10));
    }
    let lines = app.jobs.last_runs(&[Job::Fold], 10).await.unwrap();
    assert_eq!(lines.iter().map(|line| line.attempts).collect::<Vec<_>>(), [1, 1, 1]);
}

#[tokio::test]
async fn a_run_that_takes_every_process_with_it_is_given_up_after_the_tenth() {
    let app = TestApp::start().await;
    for _ in 0..10 {
        until("its lock is free", async || matches!(begin(&app.jobs, Job::Fold).await, Begun::Won(_))).await;
    }
    until("its lock is free", async || matches!(begin(&app.jobs, Job::Fold).await, Begun::Settled)).await;
    let lines = app.jobs.last_runs(&[Job::Fold], 10).await.unwrap();
    assert_eq!((lines[0].outcome, lines[0].attempts, lines[0].retry_at), (Outcome::Failed, 10, None));
    app.clock.advance(TimeDelta::seconds(10));
    perform(won(&app.jobs, Job::Fold).await).await;
}

#[tokio::test]
async fn a_slot_that_failed_is_over_when_a_later_one_was_begun() {
    let app = TestApp::start().await;
    let slot = perform(won(&app.jobs, Job::Fold).await).await;
    app.clock.advance(TimeDelta::seconds(10));
    perform(won(&app.jobs, Job::Fold).await).await;
    app.database
        .execute(&format!(
            "UPDATE job_runs SET outcome = 'failed', retry_at = slot WHERE job = 'fold' AND slot = '{slot}'"
        ))
        .await;
    // As a replica sees it whose clock is behind.
    app.clock.set(slot);
    assert!(matches!(begin(&app.jobs, Job::Fold).await, Begun::Settled));
}

#[tokio::test]
async fn after_a_clock_has_jumped_ahead_and_back_slots_are_run_again() {
    let app = TestApp::start().await;
    app.clock.set(at("2027-06-01T00:00:00Z"));
    perform(won(&app.jobs, Job::Fold).await).await;
    app.clock.set(at("2026-11-21T10:20:30Z"));
    assert_eq!(perform(won(&app.jobs, Job::Fold).await).await, at("2026-11-21T10:20:30Z"));
    assert!(matches!(begin(&app.jobs, Job::Fold).await, Begun::Settled));
}

#[tokio::test]
async fn jobs_that_work_hard_take_turns_on_all_replicas_together() {
    let app = TestApp::start().await;
    // On a new database they wait for their first slot.
    for job in [Job::Analyze, Job::Vacuum] {
        assert!(matches!(begin(&app.jobs, job).await, Begun::Settled));
    }
    app.clock.advance(TimeDelta::days(8));
    let analyzing = won(&app.jobs, Job::Analyze).await;
    assert!(matches!(begin(&app.jobs, Job::Vacuum).await, Begun::Held));
    // Those that keep answers fresh wait for nobody, nor does who asks by hand.
    perform(won(&app.jobs, Job::Fold).await).await;
    assert!(matches!(app.jobs.begin(Job::Vacuum, true).await, Ok(Begun::Won(_))));
    perform(analyzing).await;
    until("the lock is free", async || match begin(&app.jobs, Job::Vacuum).await {
        Begun::Won(run) => {
            perform(run).await;
            true
        }
        _ => false,
    })
    .await;
}
