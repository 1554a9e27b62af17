//! Late data comes into closed days while folds and refreshes go on, in any order, and at every moment every question says
//! what has come in.
//!
//! A step begins something, or puts a lock in its way, or takes one away; whatever was begun before may be anywhere. The
//! locks stop writers at known places and let readers pass: a refresh that has written the view and not said so, a fold that
//! has taken the deltas and not put them anywhere. `LATE_DATA_SEED=n` takes other seeds; a failure names its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{Days, NaiveDate, TimeDelta};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::fleet::{InTheWay, Watch};
use crate::harness::{TestApp, at, record, until};

const INTERLEAVINGS: u64 = 100;

/// Steps of one.
const STEPS: usize = 8;

/// Steps for which a lock is held at most: a flush must not wait for it until its statement times out.
const HELD: usize = 3;

const ROUTES: [&str; 3] = ["/a", "/b", "/c"];

/// Days that are closed, from this one on; all their minutes, hours and raw requests are kept.
const FIRST: &str = "2026-11-14";
const DAYS: usize = 7;

/// Where writers can be held: the first table that a flush and a fold change, those to which a fold goes, and what both a
/// fold and a refresh that has written the view say at their ends.
const TABLES: [&str; 5] =
    ["rollup_deltas", "endpoint_minute_stats", "endpoint_hourly_stats", "stale_days", "rollup_state"];

/// A count for each route and day.
type Counts = [[u64; DAYS]; ROUTES.len()];

/// What was sent, and what was acknowledged.
#[derive(Default)]
struct Ledger {
    sent: [[AtomicU64; DAYS]; ROUTES.len()],
    acknowledged: [[AtomicU64; DAYS]; ROUTES.len()],
}

fn read(counts: &[[AtomicU64; DAYS]; ROUTES.len()]) -> Counts {
    std::array::from_fn(|route| std::array::from_fn(|day| counts[route][day].load(Ordering::SeqCst)))
}

fn day(nth: usize) -> NaiveDate {
    FIRST.parse::<NaiveDate>().unwrap() + Days::new(nth as u64)
}

struct Story {
    app: Arc<TestApp>,
    ledger: Arc<Ledger>,
    random: ChaCha8Rng,
    ids: [i64; ROUTES.len()],
    begun: Vec<JoinHandle<()>>,
    in_the_way: Option<(InTheWay, usize)>,
    watch: Watch,
}

impl Story {
    /// Does something, and says what.
    async fn step(&mut self) -> String {
        if self.in_the_way.as_mut().is_some_and(|(_, steps)| std::mem::replace(steps, *steps + 1) == HELD) {
            self.release().await;
            return "the lock is taken away".to_owned();
        }
        match self.random.random_range(0..95) {
            0..30 => self.send(),
            30..47 => {
                let app = Arc::clone(&self.app);
                self.begin(async move { app.fold().await });
                "fold".to_owned()
            }
            47..67 => {
                let (app, always) = (Arc::clone(&self.app), self.random.random_bool(0.3));
                self.begin(async move {
                    app.jobs.refresh(always).await.expect("refresh");
                });
                format!("refresh, always: {always}")
            }
            67..90 => {
                let table = TABLES[self.random.random_range(0..TABLES.len())];
                // Not two: whoever takes locks in another order than the service would deadlock with it.
                if self.in_the_way.is_none() {
                    self.in_the_way = Some((InTheWay::of_writers_to(&self.app.database, table).await, 0));
                }
                format!("a lock on {table}")
            }
            _ => {
                self.release().await;
                "the lock is taken away".to_owned()
            }
        }
    }

    fn begin(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.begun.push(tokio::spawn(work));
    }

    fn send(&mut self) -> String {
        let batch: Vec<(usize, usize, Value)> = (0..self.random.random_range(1..12))
            .map(|_| {
                let (route, nth) = (self.random.random_range(0..ROUTES.len()), self.random.random_range(0..DAYS));
                let second = TimeDelta::seconds(self.random.random_range(0..86_400));
                let when = day(nth).and_hms_opt(0, 0, 0).unwrap().and_utc() + second;
                (route, nth, record(&when.to_rfc3339(), ROUTES[route], 5.0))
            })
            .collect();
        let said = format!("{} records", batch.len());
        let (app, ledger) = (Arc::clone(&self.app), Arc::clone(&self.ledger));
        let count = |of: &[[AtomicU64; DAYS]; ROUTES.len()], batch: &[(usize, usize, Value)]| {
            for (route, day, _) in batch {
                of[*route][*day].fetch_add(1, Ordering::SeqCst);
            }
        };
        count(&ledger.sent, &batch);
        self.begin(async move {
            let records: Vec<Value> = batch.iter().map(|(_, _, record)| record.clone()).collect();
            app.accept(&records).await;
            count(&ledger.acknowledged, &batch);
        });
        said
    }

    async fn release(&mut self) {
        if let Some((lock, _)) = self.in_the_way.take() {
            lock.release().await;
        }
    }

    /// Waits until whatever was begun has ended or waits for the lock, perhaps behind another that does: so that what comes
    /// next finds it there.
    async fn come_to_rest(&mut self) {
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        until("all have ended or wait", async || {
            self.begun.retain(|begun| !begun.is_finished());
            self.begun.is_empty() || self.watch.number(waiting).await > 0
        })
        .await;
    }

    /// Everything that was begun has ended, and well.
    async fn end(&mut self) {
        self.release().await;
        for begun in std::mem::take(&mut self.begun) {
            begun.await.expect("no panic");
        }
    }

    /// Asks one question, over days picked at random, and holds the answer against the ledger.
    async fn ask(&mut self) -> Result<(), String> {
        let first = self.random.random_range(0..DAYS);
        let end = self.random.random_range(first + 1..=DAYS);
        let window = format!("from={}&to={}&limit=1000", day(first), day(end));
        let route = self.random.random_range(0..ROUTES.len());
        let (kind, path) = match self.random.random_range(0..3) {
            0 => ("top", format!("/api/v1/endpoints/top?{window}")),
            1 => ("daily", format!("/api/v1/daily?{window}")),
            _ => {
                let window = format!("from={}&to={}&step=1d", day(first), day(end));
                ("series", format!("/api/v1/endpoints/{}/series?{window}", self.ids[route]))
            }
        };
        let least = read(&self.ledger.acknowledged);
        let answer = self.app.get(&path).await;
        let most = read(&self.ledger.sent);

        // By route and day, or, of a ranking, by route.
        let mut told: BTreeMap<(usize, Option<usize>), u64> = BTreeMap::new();
        let requests = |row: &Value| row["requests"].as_u64().unwrap();
        let route_of = |row: &Value| ROUTES.iter().position(|route| row["route"] == *route).unwrap();
        let day_of = |text: &str| (0..DAYS).find(|nth| text.starts_with(&day(*nth).to_string())).unwrap();
        match kind {
            "series" => told.extend(
                answer["points"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|point| ((route, Some(day_of(point["start"].as_str().unwrap()))), requests(point))),
            ),
            _ => told.extend(
                answer["rows"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|row| ((route_of(row), row["day"].as_str().map(day_of)), requests(row))),
            ),
        }
        let mut expected: BTreeMap<(usize, Option<usize>), (u64, u64)> = BTreeMap::new();
        for of_route in if kind == "series" { route..route + 1 } else { 0..ROUTES.len() } {
            for of_day in first..end {
                let (least, most) = (least[of_route][of_day], most[of_route][of_day]);
                let sum = expected.entry((of_route, (kind != "top").then_some(of_day))).or_default();
                *sum = (sum.0 + least, sum.1 + most);
            }
        }
        for (which, (least, most)) in &expected {
            let told = told.remove(which).unwrap_or(0);
            if !(*least..=*most).contains(&told) {
                return Err(format!("{path}: {which:?}: told {told}, acknowledged {least}, sent {most}"));
            }
        }
        if told.is_empty() { Ok(()) } else { Err(format!("{path}: beyond what was asked: {told:?}")) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_every_moment_of_a_hundred_interleavings_every_question_says_what_has_come_in() {
    let first_seed: u64 = std::env::var("LATE_DATA_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let app = Arc::new(TestApp::start().await);
    let ledger = Arc::new(Ledger::default());
    // Each endpoint is there, and each day is closed and in the view.
    let one_each: Vec<Value> = ROUTES.iter().map(|route| record(&format!("{FIRST}T12:00:00Z"), route, 5.0)).collect();
    app.accept(&one_each).await;
    for counts in [&ledger.sent, &ledger.acknowledged] {
        counts.iter().for_each(|days| days[0].store(1, Ordering::SeqCst));
    }
    app.fold().await;
    app.refresh().await;
    let answer = app.get("/api/v1/endpoints/top?window=30d").await;
    let rows = answer["rows"].as_array().unwrap();
    let ids = ROUTES.map(|route| rows.iter().find(|row| row["route"] == route).unwrap()["id"].as_i64().unwrap());

    let (mut asked, mut held_up) = (0, 0);
    for seed in first_seed..first_seed + INTERLEAVINGS {
        let mut story = Story {
            app: Arc::clone(&app),
            ledger: Arc::clone(&ledger),
            random: ChaCha8Rng::seed_from_u64(seed),
            ids,
            begun: Vec::new(),
            in_the_way: None,
            watch: Watch::on(&app.database).await,
        };
        for step in 0..STEPS {
            let what = story.step().await;
            // Some questions meet what has just been begun on its way, some find it at rest.
            for at_rest in [false, true] {
                if at_rest {
                    story.come_to_rest().await;
                    held_up += usize::from(!story.begun.is_empty());
                }
                if let Err(disagreement) = story.ask().await {
                    panic!("LATE_DATA_SEED={seed}: step {step} ({what}), at rest: {at_rest}: {disagreement}");
                }
                asked += 1;
            }
        }
        story.end().await;
        assert_eq!(read(&ledger.sent), read(&ledger.acknowledged), "LATE_DATA_SEED={seed}");
        if let Err(disagreement) = story.ask().await {
            panic!("LATE_DATA_SEED={seed}: at its end: {disagreement}");
        }
    }
    println!("{asked} questions, {held_up} of them while something was held up");
    assert!(held_up > asked / 30, "the locks are in somebody's way: {held_up} of {asked}");

    app.fold().await;
    app.jobs.refresh(false).await.expect("refresh");
    for nth in 0..DAYS {
        assert_eq!(app.store.verify_day(day(nth), 10).await.unwrap(), []);
    }
    let state = "SELECT (SELECT count(*) FROM stale_days) + (SELECT count(*) FROM rollup_deltas)
                 + (SELECT count(*) FROM rollup_state WHERE view_through <> '2026-11-20')";
    assert_eq!(app.database.number(state).await, 0, "the view speaks for every closed day");
    let told = "SELECT sum(request_count)::bigint FROM endpoint_daily_stats";
    let sent: u64 = read(&ledger.sent).iter().flatten().sum();
    assert_eq!(app.database.number(told).await, i64::try_from(sent).unwrap());
    assert_eq!(app.clock.now(), at(crate::harness::NOW));
}
