//! Three replicas, of which one is killed again and again, most often in the middle of what it runs: every slot is run to its
//! end, once, and everything counts once.
//!
//! `KILLED_SEED=n` takes another seed; it is printed.

use std::collections::BTreeMap;

use chrono::{Days, TimeDelta};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::fleet::{FINISH, Fleet, InTheWay, Line, ROLLUPS};
use crate::harness::{Setup, TestApp, at, record, until};

const KILLS: usize = 50;

/// What was acknowledged, by route.
#[derive(Default)]
struct Sent(BTreeMap<String, u64>);

impl Sent {
    /// Sends records of today and of days that are closed.
    async fn more(&mut self, app: &TestApp, random: &mut ChaCha8Rng) {
        let records: Vec<Value> = (0..random.random_range(5..40))
            .map(|_| {
                let when = app.clock.now() - TimeDelta::seconds(random.random_range(0..6 * 86_400));
                let route = format!("/{}", random.random_range(0..7));
                *self.0.entry(route.clone()).or_default() += 1;
                record(&when.to_rfc3339(), &route, random.random_range(1.0..900.0))
            })
            .collect();
        app.accept(&records).await;
    }

    async fn assert_told(&self, app: &TestApp) {
        let answer = app.get("/api/v1/endpoints/top?window=30d&limit=1000").await;
        let rows = answer["rows"].as_array().unwrap();
        let told =
            rows.iter().map(|row| (row["route"].as_str().unwrap().to_owned(), row["requests"].as_u64().unwrap()));
        assert_eq!(told.collect::<BTreeMap<_, _>>(), self.0);
    }
}

/// How a process is to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Death {
    /// Before its first statement has an effect.
    InAStatement,
    /// When its work is committed, and its end not written down.
    BeforeItSaysSo,
    /// Whatever it does.
    AtAnyMoment,
}

/// Kills one replica of the fleet, to which a slot has just come.
async fn kill_one(fleet: &mut Fleet<'_>, app: &TestApp, death: Death, random: &mut ChaCha8Rng) {
    let running = async |fleet: &Fleet<'_>| -> Vec<Line> {
        let folds_and_refreshes = ["fold", "refresh"];
        let lines = fleet.watch.lines().await.into_iter();
        lines.filter(|line| line.outcome == "running" && folds_and_refreshes.contains(&line.job.as_str())).collect()
    };
    let next = fleet.now + TimeDelta::seconds(10);
    if death == Death::AtAnyMoment {
        fleet.set(next);
        let victim = random.random_range(0..fleet.replicas.len());
        let moment = std::time::Duration::from_millis(random.random_range(0..60));
        tokio::time::sleep(moment).await;
        fleet.replace(victim);
        return;
    }
    let rollups = InTheWay::of_rollups(&app.database).await;
    fleet.set(next);
    until("every fold and refresh that is due waits", async || {
        let waiting = fleet.watch.waiting(ROLLUPS).await;
        waiting > 0
            && waiting
                == fleet
                    .expected
                    .iter()
                    .filter(|(job, slot)| *slot == fleet.now && (*job == "fold" || *job == "refresh"))
                    .count()
    })
    .await;
    let lines = running(fleet).await;
    let victim = &lines[random.random_range(0..lines.len())];
    let index = fleet.replicas.iter().position(|replica| replica.is(&victim.runner)).expect("one of ours");
    // Postgres ends the session of a process that is gone by itself, also while it waits for a lock; and, if the lock is
    // free at once, it carries out what was sent as far as it can without hearing more.
    let patient = random.random_bool(0.2);
    if death == Death::InAStatement {
        fleet.replace(index);
        if patient {
            until("the session of the dead is gone", async || {
                let sessions = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
                (app.database.number(sessions).await as usize) < lines.len()
            })
            .await;
        }
        rollups.release().await;
    } else {
        let ends = InTheWay::of_writers_to(&app.database, "job_runs").await;
        rollups.release().await;
        until("the work is committed", async || fleet.watch.waiting(FINISH).await >= lines.len()).await;
        fleet.replace(index);
        if patient {
            until("the session of the dead is gone", async || fleet.watch.waiting(FINISH).await < lines.len()).await;
        }
        ends.release().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_leader_killed_fifty_times_every_slot_is_run_once_and_everything_counts_once() {
    let seed = std::env::var("KILLED_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(50);
    println!("KILLED_SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // The night to a new day is in it.
    let start = at("2026-11-21T23:40:00Z");
    let app = TestApp::with(Setup { now: start, ..Setup::default() }).await;
    let mut fleet = Fleet::start(&app.database, 3, start).await;
    let mut sent = Sent::default();
    let mut deaths: BTreeMap<Death, usize> = BTreeMap::new();
    for _ in 0..KILLS {
        sent.more(&app, &mut random).await;
        if random.random_bool(0.3) {
            // To just before the next refresh, so that it dies too, or its neighbour.
            let quarter = TimeDelta::minutes(15);
            let mut next = at("2026-11-21T23:34:50Z");
            while next <= fleet.now {
                next += quarter;
            }
            fleet.set(next);
            fleet.settled().await;
        }
        let death = [Death::InAStatement, Death::BeforeItSaysSo, Death::AtAnyMoment][random.random_range(0..3)];
        *deaths.entry(death).or_default() += 1;
        kill_one(&mut fleet, &app, death, &mut random).await;
        fleet.settled().await;
        app.clock.set(fleet.now);
    }
    sent.more(&app, &mut random).await;
    sent.assert_told(&app).await;
    // One slot more, in peace.
    fleet.set(fleet.now + TimeDelta::seconds(10));
    fleet.settled().await;
    fleet.stop().await;

    let lines = fleet.assert_each_slot_once().await;
    let again: Vec<_> = lines.iter().filter(|line| line.attempts > 1).collect();
    println!("{} slots, {} begun more than once; {deaths:?}", lines.len(), again.len());
    assert!(again.iter().any(|line| line.job == "fold"), "{again:?}");
    assert!(again.len() >= KILLS / 5, "{again:?}");

    sent.assert_told(&app).await;
    assert_eq!(app.database.number("SELECT count(*) FROM rollup_deltas").await, 0, "the last slot folded all");
    app.refresh().await;
    sent.assert_told(&app).await;
    for ago in 0..8 {
        let day = fleet.now.date_naive() - Days::new(ago);
        assert_eq!(app.store.verify_day(day, 10).await.unwrap(), []);
    }
}
