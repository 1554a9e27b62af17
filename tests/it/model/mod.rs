//! The service against a plain list of records.
//!
//! Random records (late ones, ones ahead of the clock, batches delivered twice under one key, several services) come in
//! random batches, with folds, refreshes, new days, retention and passing time in between, in random order. After each step every
//! question, over random windows, must say what counting the list says. The last tests break the service on purpose and
//! insist that the model notices.
//!
//! `MODEL_SEED=n` runs one seed more; a failure names its own.

mod expected;
mod questions;

use chrono::{DateTime, TimeDelta, Utc};
use endpoint_stats::jobs::Job;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::harness::{Database, Setup, TestApp, at};
use expected::{Model, Record};

/// Steps of one run: enough for several days to close, be refreshed, and change afterwards.
const STEPS: usize = 45;

/// Runs of the sound service.
const SEEDS: [u64; 4] = [1, 2, 3, 4];

/// Runs in which a broken service must have been found out. Each breaks early in practice.
const SEEDS_TO_NOTICE: [u64; 3] = [11, 12, 13];

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_what_counting_the_records_says() {
    let chosen = std::env::var("MODEL_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in SEEDS.into_iter().chain(chosen) {
        if let Err(disagreement) = run(seed, "").await {
            panic!("MODEL_SEED={seed}: {disagreement}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_notices_a_view_whose_days_are_never_marked_stale() {
    noticed(
        "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER broken BEFORE INSERT ON stale_days FOR EACH ROW EXECUTE FUNCTION broken()",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_notices_a_fold_that_leaves_the_deltas_behind() {
    noticed(
        "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO rollup_deltas SELECT OLD.*; RETURN NULL; END';
         CREATE TRIGGER broken AFTER DELETE ON rollup_deltas FOR EACH ROW EXECUTE FUNCTION broken()",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_notices_a_key_that_is_forgotten() {
    noticed(
        "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN DELETE FROM ingest_batches WHERE idempotency_key = NEW.idempotency_key; RETURN NULL; END';
         CREATE TRIGGER broken AFTER INSERT ON ingest_batches FOR EACH ROW EXECUTE FUNCTION broken()",
    )
    .await;
}

async fn noticed(sabotage: &str) {
    for seed in SEEDS_TO_NOTICE {
        if let Err(disagreement) = run(seed, sabotage).await {
            println!("MODEL_SEED={seed}: {disagreement}");
            return;
        }
    }
    panic!("no disagreement in {} runs of {STEPS} steps", SEEDS_TO_NOTICE.len());
}

/// One run; `Err` tells the first disagreement.
async fn run(seed: u64, sabotage: &str) -> Result<(), String> {
    let start = at("2026-11-18T22:40:00Z");
    let database = Database::create().await;
    database.execute(sabotage).await;
    let app = TestApp::on(database, Setup { now: start, ..Setup::default() }).await;
    let mut story = Story {
        random: ChaCha8Rng::seed_from_u64(seed),
        model: Model::new(start, &Setup::default().retention),
        delivered: Vec::new(),
        app,
    };
    for step in 0..STEPS {
        let what = story.step().await;
        questions::ask_all(&mut story).await.map_err(|disagreement| format!("step {step} ({what}): {disagreement}"))?;
    }
    let Story { app, .. } = story;
    app.stop().await;
    Ok(())
}

/// A run under way.
struct Story {
    random: ChaCha8Rng,
    model: Model,
    /// Batches delivered under a key, to be delivered again.
    delivered: Vec<(String, String)>,
    app: TestApp,
}

impl Story {
    fn now(&self) -> DateTime<Utc> {
        self.app.clock.now()
    }

    /// Does something, and says what.
    async fn step(&mut self) -> String {
        match self.random.random_range(0..100) {
            0..45 => {
                let records = self.records();
                let keyed = self.random.random_bool(0.5);
                self.deliver(&records, keyed).await;
                format!("{} records", records.len())
            }
            45..53 if !self.delivered.is_empty() => {
                let index = self.random.random_range(0..self.delivered.len());
                let (key, body) = self.delivered[index].clone();
                self.send(&body, Some(&key)).await;
                format!("{key} again")
            }
            45..67 => {
                self.app.fold().await;
                "fold".to_owned()
            }
            67..82 => {
                let always = self.random.random_bool(0.5);
                self.app.jobs.refresh(always).await.expect("refresh");
                format!("refresh, always: {always}")
            }
            82..84 => {
                self.app.jobs.partitions().await.expect("partitions");
                "partitions".to_owned()
            }
            84..88 => {
                crate::jobs::perform(&self.app, Job::Retention).await;
                self.model.synchronise(self.now());
                "retention".to_owned()
            }
            _ => {
                let minutes = [1, 7, 61, 60 * 9, 60 * 26][self.random.random_range(0..5)];
                self.app
                    .clock
                    .advance(TimeDelta::minutes(minutes) + TimeDelta::seconds(self.random.random_range(0..60)));
                self.app.jobs.synchronise().await.expect("synchronise");
                self.model.synchronise(self.now());
                format!("{minutes} minutes pass")
            }
        }
    }

    fn records(&mut self) -> Vec<Record> {
        let now = self.now();
        let random = &mut self.random;
        (0..random.random_range(1..60))
            .map(|_| {
                // Mostly new; some late, into closed days, beyond the minutes and beyond the raw rows; some ahead.
                let age = match random.random_range(0..10) {
                    0..4 => TimeDelta::seconds(random.random_range(0..3_600)),
                    4..8 => TimeDelta::seconds(random.random_range(0..5 * 86_400)),
                    8 => TimeDelta::seconds(random.random_range(0..45 * 86_400)),
                    _ => TimeDelta::seconds(-random.random_range(0..299)),
                };
                let timed = random.random_bool(0.8);
                Record {
                    at: now - age + TimeDelta::milliseconds(random.random_range(0..1_000)),
                    service: ["shop", "search", "unknown_service"][random.random_range(0..3)],
                    method: ["GET", "POST"][random.random_range(0..2)],
                    route: ["/", "/items/{id}", "/Items/{id}/buy"][random.random_range(0..3)],
                    status: [200, 200, 200, 204, 301, 404, 500, 503][random.random_range(0..8)],
                    us: timed.then(|| 2f64.powf(random.random_range(0.0..24.0)) as u64),
                }
            })
            .collect()
    }

    async fn deliver(&mut self, records: &[Record], keyed: bool) {
        let body = Value::Array(records.iter().map(to_json).collect()).to_string();
        let key = keyed.then(|| format!("batch-{}", self.delivered.len()));
        self.send(&body, key.as_deref()).await;
        self.delivered.extend(key.map(|key| (key, body)));
        self.model.add(records);
    }

    async fn send(&self, body: &str, key: Option<&str>) {
        let mut request = self.app.post("application/json", body.to_owned());
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
    }
}

fn to_json(record: &Record) -> Value {
    let mut json = json!({
        "timestamp": record.at,
        "method": record.method,
        "route": record.route,
        "status": record.status,
    });
    if record.service != "unknown_service" {
        json["service"] = record.service.into();
    }
    if let Some(us) = record.us {
        json["response_time_ms"] = (us as f64 / 1_000.0).into();
    }
    json
}
