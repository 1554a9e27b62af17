//! A process that is killed, paused or cut off loses its job to another within two slots, and writes nothing when it wakes.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use endpoint_stats::jobs::Job;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::fleet::{InTheWay, Line, ROLLUPS, Replica, USUAL, Watch};
use crate::harness::{Database, at, until};

/// Two slots of the fold.
const TWO_SLOTS: Duration = Duration::from_secs(20);

/// Long enough for a session to end whose client is gone, too short for it to give up waiting for its lock.
const GONE: Duration = Duration::from_secs(8);

/// So many that a fold waits a second and then looks for more: its session is idle meanwhile.
const MANY_DELTAS: i64 = 21_000;

const VICTIM: usize = 0;
const OTHER: usize = 1;

/// Where the clock stands when the job is lost.
const SLOT: &str = "2026-11-21T10:20:40Z";

/// Two replicas, of which the first will lose its fold.
struct Scene {
    database: Database,
    watch: Watch,
    /// The victim, then the other.
    replicas: Vec<Replica>,
    now: DateTime<Utc>,
}

impl Scene {
    /// Its victim comes to Postgres by `way`.
    async fn on(database: Database, way: &str) -> Self {
        let now = at(SLOT) - TimeDelta::seconds(10);
        database.execute("INSERT INTO endpoints (service, method, route) VALUES ('shop', 'GET', '/')").await;
        let watch = Watch::on(&database).await;
        let victim = Replica::start(way, now, USUAL);
        until("three jobs have begun", async || watch.succeeded().await == 3).await;
        // It comes when the victim has begun its slot.
        let other = Replica::start(database.url(), now, USUAL);
        Self { database, watch, replicas: vec![victim, other], now }
    }

    async fn deltas(&self, count: i64) {
        let insert = format!(
            "INSERT INTO rollup_deltas SELECT date_trunc('minute', '{SLOT}'::timestamptz), id, 1, 0, 0, 0, 0, 0, NULL, NULL, 0
             FROM endpoints, generate_series(1, {count})"
        );
        self.database.execute(&insert).await;
    }

    async fn line(&self) -> Option<Line> {
        self.watch.line(Job::Fold, at(SLOT)).await
    }

    /// Lets the victim begin its slot.
    async fn begin(&mut self) {
        self.now = at(SLOT);
        self.replicas[VICTIM].set(self.now);
        until("the victim runs", async || self.is_run_by(VICTIM).await).await;
        self.replicas[OTHER].set(self.now);
    }

    /// Insists that the other finishes what the victim began, in time, and goes on with the next slot.
    async fn assert_taken_over(&mut self, lost: Instant, limit: Duration) {
        until("another finishes the run", async || self.line().await.unwrap().outcome == "succeeded").await;
        let took = lost.elapsed();
        println!("taken over within {took:?}");
        assert!(took < limit, "{took:?}");
        let line = self.line().await.unwrap();
        assert!(self.replicas[OTHER].is(&line.runner) && line.attempts == 2, "{line:?}");
        assert_eq!(self.next_slot().await, OTHER);
    }

    /// Whether the slot is being run by this one.
    async fn is_run_by(&self, replica: usize) -> bool {
        self.line().await.is_some_and(|line| line.outcome == "running" && self.replicas[replica].is(&line.runner))
    }

    /// Lets the clocks go on, and tells by whom the next slot is run.
    async fn next_slot(&mut self) -> usize {
        self.now += TimeDelta::seconds(10);
        self.replicas.iter_mut().for_each(|replica| replica.set(self.now));
        let line = async || self.watch.line(Job::Fold, self.now).await;
        until("the next slot is run", async || line().await.is_some_and(|line| line.outcome == "succeeded")).await;
        let runner = line().await.unwrap().runner;
        self.replicas.iter().position(|replica| replica.is(&runner)).unwrap()
    }

    /// Wakes the victim, and insists that it changes nothing and then goes on as before.
    async fn assert_harmless(mut self, wake: impl FnOnce(&Replica)) {
        let (before, folded) = (self.watch.lines().await, self.folded().await);
        wake(&self.replicas[VICTIM]);
        // From now on it is alone.
        self.replicas.remove(OTHER).stop().await;
        assert_eq!(self.next_slot().await, VICTIM);
        let mut after = self.watch.lines().await;
        after.retain(|line| before.iter().any(|then| (&then.job, then.slot) == (&line.job, line.slot)));
        assert_eq!(after, before);
        assert_eq!(self.folded().await, folded);
        self.replicas.remove(VICTIM).stop().await;
    }

    /// What is in minutes and hours, and what is yet to go there.
    async fn folded(&self) -> [i64; 3] {
        let mut counts = [0; 3];
        let tables = ["endpoint_minute_stats", "endpoint_hourly_stats", "rollup_deltas"];
        for (count, table) in counts.iter_mut().zip(tables) {
            *count =
                self.database.number(&format!("SELECT COALESCE(sum(request_count), 0)::bigint FROM {table}")).await;
        }
        counts
    }
}

async fn alone() -> Scene {
    let database = Database::create().await;
    let url = database.url().to_owned();
    Scene::on(database, &url).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_a_statement_it_loses_its_job_to_another_within_two_slots() {
    let mut scene = alone().await;
    scene.deltas(10).await;
    let rollups = InTheWay::of_rollups(&scene.database).await;
    scene.begin().await;
    until("it waits", async || scene.watch.waiting(ROLLUPS).await == 1).await;
    scene.replicas[VICTIM].kill();
    let lost = Instant::now();
    // Its session is over though its statement still waits, and another waits in its place.
    until("another waits", async || scene.is_run_by(OTHER).await).await;
    rollups.release().await;
    scene.assert_taken_over(lost, GONE).await;
    assert_eq!(scene.folded().await, [10, 10, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_in_a_transaction_it_loses_its_job_and_writes_nothing_when_it_wakes() {
    let mut scene = alone().await;
    scene.deltas(10).await;
    let rollups = InTheWay::of_rollups(&scene.database).await;
    scene.begin().await;
    until("it waits", async || scene.watch.waiting(ROLLUPS).await == 1).await;
    scene.replicas[VICTIM].signal("STOP");
    let lost = Instant::now();
    // Now its transaction has the lock that others wait for.
    rollups.release().await;
    scene.assert_taken_over(lost, TWO_SLOTS).await;
    assert_eq!(scene.folded().await, [10, 10, 0]);
    // Some for it to fold, if it could.
    scene.deltas(7).await;
    assert_eq!(scene.next_slot().await, OTHER);
    assert_eq!(scene.folded().await, [17, 17, 0]);
    scene.assert_harmless(|victim| victim.signal("CONT")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_between_two_pieces_it_loses_its_job_and_writes_nothing_when_it_wakes() {
    let mut scene = alone().await;
    scene.deltas(MANY_DELTAS).await;
    scene.begin().await;
    until("it has moved them", async || scene.line().await.unwrap().rows == Some(MANY_DELTAS)).await;
    scene.replicas[VICTIM].signal("STOP");
    let lost = Instant::now();
    let line = scene.line().await.unwrap();
    assert_eq!((line.outcome.as_str(), line.attempts), ("running", 1), "paused in its second of waiting");
    scene.deltas(7).await;
    scene.assert_taken_over(lost, TWO_SLOTS).await;
    assert_eq!(scene.folded().await, [MANY_DELTAS + 7, MANY_DELTAS + 7, 0]);
    scene.assert_harmless(|victim| victim.signal("CONT")).await;
}

/// It wakes while another is at its run: that is the moment at which it could spoil what `job_runs` says.
#[tokio::test(flavor = "multi_thread")]
async fn waking_while_another_is_at_its_run_it_does_not_say_how_that_ends() {
    let mut scene = alone().await;
    scene.deltas(10).await;
    // Whoever says how a run ended, and not over the session of a run, is noted, also where it changes nothing.
    scene
        .database
        .execute(
            "CREATE TABLE said (at timestamptz);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN IF current_setting(''application_name'') = ''endpoint-stats'' THEN INSERT INTO said VALUES (now()); END IF; RETURN NULL; END';
             CREATE TRIGGER note AFTER UPDATE ON job_runs FOR EACH STATEMENT EXECUTE FUNCTION note()",
        )
        .await;
    let rollups = InTheWay::of_rollups(&scene.database).await;
    scene.begin().await;
    until("it waits", async || scene.watch.waiting(ROLLUPS).await == 1).await;
    scene.replicas[VICTIM].signal("STOP");
    rollups.release().await;
    // Granted when Postgres has ended the victim's session.
    let rollups = InTheWay::of_rollups(&scene.database).await;
    until("another is at it", async || scene.is_run_by(OTHER).await).await;
    scene.replicas[VICTIM].signal("CONT");
    until("the victim says that its run failed", async || scene.database.number("SELECT count(*) FROM said").await > 0)
        .await;
    let line = scene.line().await.unwrap();
    assert_eq!((line.outcome.as_str(), line.attempts), ("running", 2));
    rollups.release().await;
    until("the run ends", async || scene.line().await.unwrap().outcome != "running").await;
    let line = scene.line().await.unwrap();
    assert!(line.outcome == "succeeded" && scene.replicas[OTHER].is(&line.runner), "{line:?}");
    assert_eq!(scene.folded().await, [10, 10, 0]);
    scene.next_slot().await;
}

/// A way to Postgres that can be cut and mended: meanwhile nothing comes through, nothing is lost, and neither end hears of
/// it. Gives its address.
async fn way_to(database: &Database, cut: watch::Receiver<bool>) -> String {
    let mut url = url::Url::parse(database.url()).unwrap();
    let postgres = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    tokio::spawn(async move {
        while let Ok((here, _)) = listener.accept().await {
            let (postgres, mut cut) = (postgres.clone(), cut.clone());
            tokio::spawn(async move {
                if cut.wait_for(|cut| !cut).await.is_err() {
                    return;
                }
                let there = TcpStream::connect(postgres).await.unwrap();
                let ((from_here, to_here), (from_there, to_there)) = (here.into_split(), there.into_split());
                tokio::join!(forward(from_here, to_there, cut.clone()), forward(from_there, to_here, cut));
            });
        }
    });
    url.to_string()
}

async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut cut: watch::Receiver<bool>,
) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut bytes).await;
        if cut.wait_for(|cut| !cut).await.is_err() {
            return;
        }
        match read {
            Ok(length @ 1..) if to.write_all(&bytes[..length]).await.is_ok() => {}
            // Passes the end on.
            _ => return,
        }
    }
}

async fn cut_off() -> (Scene, watch::Sender<bool>) {
    let database = Database::create().await;
    let (cut, state) = watch::channel(false);
    let way = way_to(&database, state).await;
    (Scene::on(database, &way).await, cut)
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_in_a_transaction_it_loses_its_job_and_writes_nothing_when_the_line_is_mended() {
    let (mut scene, cut) = cut_off().await;
    scene.deltas(10).await;
    let rollups = InTheWay::of_rollups(&scene.database).await;
    scene.begin().await;
    until("it waits", async || scene.watch.waiting(ROLLUPS).await == 1).await;
    cut.send_replace(true);
    let lost = Instant::now();
    rollups.release().await;
    scene.assert_taken_over(lost, TWO_SLOTS).await;
    assert_eq!(scene.folded().await, [10, 10, 0]);
    scene.deltas(7).await;
    assert_eq!(scene.next_slot().await, OTHER);
    // The victim still waits for its lock, and now hears that it has it.
    scene.assert_harmless(|_| assert!(cut.send_replace(false))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_between_two_pieces_it_loses_its_job_and_writes_nothing_when_the_line_is_mended() {
    let (mut scene, cut) = cut_off().await;
    scene.deltas(MANY_DELTAS).await;
    scene.begin().await;
    until("it has moved them", async || scene.line().await.unwrap().rows == Some(MANY_DELTAS)).await;
    cut.send_replace(true);
    let lost = Instant::now();
    scene.deltas(7).await;
    scene.assert_taken_over(lost, TWO_SLOTS).await;
    assert_eq!(scene.folded().await, [MANY_DELTAS + 7, MANY_DELTAS + 7, 0]);
    // What it sent into the void comes through now.
    scene.assert_harmless(|_| assert!(cut.send_replace(false))).await;
}
