//! Three replicas: every slot is run once, by whichever.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use endpoint_stats::domain::Clock;
use endpoint_stats::jobs::{Begun, Job};
use tokio_util::sync::CancellationToken;

use super::fleet::{FAST, Fleet, Line, Replica, Watch, is_due, only, scheduled};
use crate::harness::{Database, at, until};

fn by_runner(lines: &[Line]) -> BTreeMap<&str, usize> {
    let mut runs = BTreeMap::new();
    for line in lines {
        *runs.entry(line.runner.as_str()).or_default() += 1;
    }
    runs
}

/// An hour second by second, as far as slots go, and then the small hours, in which every job has its slot: this is the
/// first of a month, and a Sunday.
#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_run_every_slot_exactly_once() {
    let database = Database::create().await;
    let start = at("2026-11-01T00:58:00Z");
    let mut fleet = Fleet::start(&database, 3, start).await;
    for _ in 0..360 {
        fleet.set(fleet.now + TimeDelta::seconds(10));
        fleet.settled().await;
    }
    assert_eq!(fleet.now, at("2026-11-01T01:58:00Z"));
    assert_eq!(fleet.expected.iter().filter(|(job, _)| *job == "fold").count(), 361);
    fleet.assert_each_slot_once().await;

    let end = at("2026-11-01T05:05:00Z");
    while fleet.now < end {
        let mut next = fleet.now + TimeDelta::seconds(10);
        while !Job::ALL.iter().any(|job| *job != Job::Fold && is_due(*job, next)) {
            next += TimeDelta::seconds(10);
        }
        fleet.set(next);
        fleet.settled().await;
    }
    fleet.stop().await;
    let lines = fleet.assert_each_slot_once().await;
    assert!(lines.iter().all(|line| line.attempts == 1), "{lines:#?}");
    let all_ran = Job::ALL.iter().all(|job| lines.iter().any(|line| line.job == job.name()));
    assert!(all_ran, "each of the ten jobs had a slot");
    println!("{} runs: {:?}", lines.len(), by_runner(&lines));
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_whose_clocks_are_a_minute_ahead_and_behind_run_every_slot_once() {
    let database = Database::create().await;
    let minute = TimeDelta::minutes(1);
    // The one ahead: the others find that everything they think due is over.
    let mut fleet = Fleet::start(&database, 1, at("2026-11-21T10:21:30Z")).await;
    let mut behind = [0, -1].map(|minutes| {
        let now = fleet.now - minute + minute * minutes;
        (minutes, Replica::start(database.url(), now, FAST))
    });
    for _ in 0..60 {
        let now = fleet.now + TimeDelta::seconds(10);
        behind.iter_mut().for_each(|(minutes, replica)| replica.set(now - minute + minute * *minutes));
        fleet.set(now);
        fleet.settled().await;
    }
    let ahead = fleet.now;
    // It dies in the middle of the night, so to speak: the next takes over where its clock stands.
    fleet.replicas[0].kill();
    let now = ahead + TimeDelta::seconds(10);
    behind[0].1.set(now);
    fleet.set(now);
    fleet.settled().await;
    fleet.replicas.clear();
    for (_, replica) in behind {
        replica.stop().await;
    }
    let lines = fleet.assert_each_slot_once().await;
    assert!(lines.iter().all(|line| line.attempts == 1), "{lines:#?}");
}

/// It takes slots for due that are not yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_starts_with_a_wrong_clock_goes_by_that_of_the_database() {
    let database = Database::create().await;
    let second = TimeDelta::seconds(1);
    let jobs = |clock: &Clock| scheduled(database.url(), clock.clone(), only(Job::Fold, "2s"));
    let right = jobs(&Clock::system());
    let mut ran: Option<DateTime<Utc>> = None;
    until("a slot has just begun", async || {
        let Ok(Begun::Won(run)) = right.begin(Job::Fold, false).await else { return false };
        ran = Some(run.perform(&CancellationToken::new(), None).await.slot);
        Utc::now() - ran.unwrap() < TimeDelta::milliseconds(500)
    })
    .await;
    let slot = ran.unwrap();

    let wrong = Clock::system();
    wrong.follow(Utc::now() + second * 2);
    let stop = CancellationToken::new();
    let running = tokio::spawn(jobs(&wrong).looking_every(Duration::from_millis(100)).run(true, stop.clone()));
    let watch = Watch::on(&database).await;
    until("two slots later", async || watch.line(Job::Fold, slot + second * 4).await.is_some()).await;
    stop.cancel();
    running.await.unwrap();
    assert!(watch.line(Job::Fold, slot + second * 2).await.is_some(), "{:#?}", watch.lines().await);
    assert_eq!(watch.number("SELECT count(*) FROM job_runs WHERE slot > started_at").await, 0, "run before it was due");
}
