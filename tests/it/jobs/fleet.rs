//! Replicas as processes of their own, which can be killed and paused, with a clock that the test sets: this binary again,
//! running one test that is none.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Datelike as _, TimeDelta, Timelike as _, Utc, Weekday};
use endpoint_stats::domain::{Clock, HandSetClock};
use endpoint_stats::jobs::{Job, Jobs, JobsConfig, Keeps, Schedule, Schedules};
use endpoint_stats::store::{Store, StoreConfig};
use tokio_util::sync::CancellationToken;

use crate::harness::{Database, Setup, at, process, until};

const DATABASE: &str = "JOBS_TEST_DATABASE";
const LOOK: &str = "JOBS_TEST_LOOK_MS";

/// How often replicas look whose clock runs a thousand times as fast as ours.
pub const FAST: Duration = Duration::from_millis(15);

/// How often they look in earnest.
pub const USUAL: Duration = Duration::from_millis(500);

/// The jobs of one replica: a store of its own, and every run is remembered.
pub fn jobs_on(url: &str, clock: &HandSetClock, look_every: Duration) -> Jobs {
    scheduled(url, clock.clock(), Schedules::default()).looking_every(look_every)
}

/// The same with other schedules.
pub fn scheduled(url: &str, clock: Clock, schedules: Schedules) -> Jobs {
    let store = Store::new(&StoreConfig { url: url.to_owned(), pool_min: 0, pool_max: 3 }).unwrap();
    let keeps = Keeps { idempotency_keys: None, job_runs: None, logs: None };
    let config = JobsConfig { schedules, keeps, ..JobsConfig::new(Setup::default().retention) };
    Jobs::new(Arc::new(store), clock, config)
}

/// A schedule of one job alone.
pub fn only(job: Job, schedule: &str) -> Schedules {
    Schedules::new(|other| if other == job { schedule.parse().unwrap() } else { Schedule::Off })
}

/// Not a test by itself: a replica that sets its clock to what it reads, line by line, and stops well when there is no more.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the replicas of the other tests"]
async fn stands_in_for_a_replica() {
    let Ok(url) = std::env::var(DATABASE) else { return };
    let look_every = Duration::from_millis(std::env::var(LOOK).unwrap().parse().unwrap());
    let mut now = String::new();
    std::io::stdin().read_line(&mut now).unwrap();
    let clock = HandSetClock::at(at(now.trim()));
    let jobs = jobs_on(&url, &clock, look_every);
    let stop = CancellationToken::new();
    std::thread::spawn({
        let stop = stop.clone();
        move || {
            std::io::stdin().lines().map_while(Result::ok).for_each(|line| clock.set(at(&line)));
            stop.cancel();
        }
    });
    jobs.run(true, stop).await;
}

/// A replica that runs; killed when dropped.
pub struct Replica {
    child: Child,
    clock: Option<ChildStdin>,
}

impl Replica {
    pub fn start(url: &str, now: DateTime<Utc>, look_every: Duration) -> Self {
        let module = module_path!().split_once("::").unwrap().1;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("{module}::stands_in_for_a_replica"), "--ignored", "--nocapture"])
            .env(DATABASE, url)
            .env(LOOK, look_every.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let clock = child.stdin.take();
        let mut replica = Self { child, clock };
        replica.set(now);
        replica
    }

    /// One that is dead hears nothing.
    pub fn set(&mut self, now: DateTime<Utc>) {
        let _ = writeln!(self.clock.as_mut().unwrap(), "{now:?}");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is this one that `job_runs` names.
    pub fn is(&self, runner: &str) -> bool {
        runner.split(' ').next_back() == Some(&self.pid().to_string())
    }

    pub fn signal(&self, name: &str) {
        process::signal(name, self.pid());
    }

    pub fn kill(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).unwrap();
    }

    /// Tells it to stop, and insists that it does, and well.
    pub async fn stop(mut self) {
        drop(self.clock.take());
        until("the replica stops", async || self.child.try_wait().unwrap().is_some()).await;
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // Also one that is paused. It may have ended already.
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Whether `job` is due at `instant`, as the README's table has it, not as the service reckons.
pub fn is_due(job: Job, instant: DateTime<Utc>) -> bool {
    let (hour, minute, second) = (instant.hour(), instant.minute(), instant.second());
    let daily = |at| (hour, minute, second) == at;
    match job {
        Job::Fold => second % 10 == 0,
        Job::Refresh => [5, 20, 35, 50].contains(&minute) && second == 0,
        Job::Partitions => (minute, second) == (0, 0),
        Job::Retention => daily((1, 0, 0)),
        Job::CacheCleanup => daily((2, 0, 0)),
        Job::Housekeeping => daily((2, 30, 0)),
        Job::Analyze => daily((3, 10, 0)),
        Job::Vacuum => daily((3, 30, 0)) && instant.weekday() == Weekday::Sun,
        Job::Reindex => daily((4, 0, 0)) && instant.day() == 1,
        Job::Verify => daily((5, 0, 0)),
    }
}

/// The last slot of `job` at or before `instant`, a multiple of ten seconds.
pub fn last_due(job: Job, mut instant: DateTime<Utc>) -> DateTime<Utc> {
    while !is_due(job, instant) {
        instant -= TimeDelta::seconds(10);
    }
    instant
}

/// A line of `job_runs`.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub job: String,
    pub slot: DateTime<Utc>,
    pub outcome: String,
    pub attempts: i32,
    pub runner: String,
    pub rows: Option<i64>,
}

/// What the database says of runs; a connection of the test's own.
pub struct Watch(pub tokio_postgres::Client);

impl Watch {
    pub async fn on(database: &Database) -> Self {
        Self(database.connect().await)
    }

    /// Every run of a slot.
    pub async fn lines(&self) -> Vec<Line> {
        let statement = "SELECT job, extract(epoch FROM slot)::bigint, outcome, attempts, runner, rows FROM job_runs
                         WHERE NOT by_hand AND outcome <> 'new' ORDER BY job, slot";
        let rows = self.0.query(statement, &[]).await.unwrap();
        let line = |row: &tokio_postgres::Row| Line {
            job: row.get(0),
            slot: DateTime::from_timestamp_secs(row.get(1)).unwrap(),
            outcome: row.get(2),
            attempts: row.get(3),
            runner: row.get(4),
            rows: row.get(5),
        };
        rows.iter().map(line).collect()
    }

    pub async fn line(&self, job: Job, slot: DateTime<Utc>) -> Option<Line> {
        self.lines().await.into_iter().find(|line| line.job == job.name() && line.slot == slot)
    }

    /// One number.
    pub async fn number(&self, statement: &str) -> i64 {
        self.0.query_one(statement, &[]).await.unwrap().get(0)
    }

    pub async fn succeeded(&self) -> usize {
        let statement = "SELECT count(*) FROM job_runs WHERE NOT by_hand AND outcome = 'succeeded'";
        self.number(statement).await.try_into().unwrap()
    }

    /// How many runs wait for a lock in a statement that contains this.
    pub async fn waiting(&self, statement: &str) -> usize {
        let waiting = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
             AND application_name LIKE 'endpoint-stats job %' AND strpos(query, '{statement}') > 0"
        );
        self.number(&waiting).await.try_into().unwrap()
    }
}

/// A statement of [`Watch::waiting`]: the lock that fold and refresh take first.
pub const ROLLUPS: &str = "pg_advisory_xact_lock";

/// A statement of [`Watch::waiting`]: the end of a run.
pub const FINISH: &str = "SET outcome = $4";

/// A lock in the way of runs, until it is released or dropped.
pub struct InTheWay(tokio_postgres::Client);

impl InTheWay {
    /// Of folds and refreshes: they wait before they have written anything.
    pub async fn of_rollups(database: &Database) -> Self {
        let lock = "SELECT pg_advisory_xact_lock(hashtext('endpoint_stats'), hashtext('rollups'))";
        Self::by(database, lock).await
    }

    /// Of whoever writes to `table`; readers pass.
    pub async fn of_writers_to(database: &Database, table: &str) -> Self {
        Self::by(database, &format!("LOCK TABLE {table} IN EXCLUSIVE MODE")).await
    }

    async fn by(database: &Database, lock: &str) -> Self {
        let client = database.connect().await;
        client.batch_execute(&format!("BEGIN; {lock}")).await.unwrap();
        Self(client)
    }

    pub async fn release(self) {
        self.0.batch_execute("ROLLBACK").await.unwrap();
    }
}

/// Several replicas on one database, and what they should have run.
pub struct Fleet<'d> {
    pub replicas: Vec<Replica>,
    pub watch: Watch,
    pub now: DateTime<Utc>,
    pub expected: BTreeSet<(&'static str, DateTime<Utc>)>,
    database: &'d Database,
}

impl<'d> Fleet<'d> {
    /// On a database in which no job has ever run.
    pub async fn start(database: &'d Database, size: usize, now: DateTime<Utc>) -> Self {
        let replicas = (0..size).map(|_| Replica::start(database.url(), now, FAST)).collect();
        let watch = Watch::on(database).await;
        let expected = [Job::Fold, Job::Refresh, Job::Partitions].map(|job| (job.name(), last_due(job, now))).into();
        let fleet = Self { replicas, watch, now, expected, database };
        // All ten are known from here on: the rest wait for their next slot.
        let known = "SELECT count(DISTINCT job) FROM job_runs";
        until("every job is known", async || fleet.watch.number(known).await == 10).await;
        fleet.settled().await;
        fleet
    }

    /// Sets all clocks. What has gone by is expected to be made up for, once.
    pub fn set(&mut self, now: DateTime<Utc>) {
        for job in Job::ALL {
            let slot = last_due_between(job, self.now, now);
            self.expected.extend(slot.map(|slot| (job.name(), slot)));
        }
        self.now = now;
        self.replicas.iter_mut().for_each(|replica| replica.set(now));
    }

    /// Waits until everything due has been run.
    pub async fn settled(&self) {
        until("every slot is run", async || self.watch.succeeded().await >= self.expected.len()).await;
    }

    /// Kills one, and starts another in its place.
    pub fn replace(&mut self, index: usize) {
        self.replicas[index].kill();
        self.replicas[index] = Replica::start(self.database.url(), self.now, FAST);
    }

    pub async fn stop(&mut self) {
        for replica in self.replicas.drain(..) {
            replica.stop().await;
        }
    }

    /// Holds `job_runs` against what was expected. Returns its lines.
    pub async fn assert_each_slot_once(&self) -> Vec<Line> {
        let lines = self.watch.lines().await;
        assert!(lines.iter().all(|line| line.outcome == "succeeded"), "{lines:#?}");
        let ran: BTreeSet<_> = lines.iter().map(|line| (line.job.as_str(), line.slot)).collect();
        let expected: BTreeSet<(&str, _)> = self.expected.iter().copied().collect();
        assert_eq!(ran.difference(&expected).collect::<Vec<_>>(), Vec::<&(&str, _)>::new(), "not due");
        assert_eq!(expected.difference(&ran).collect::<Vec<_>>(), Vec::<&(&str, _)>::new(), "not run");
        lines
    }
}

fn last_due_between(job: Job, after: DateTime<Utc>, through: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let mut instants = std::iter::successors(Some(through), |instant| Some(*instant - TimeDelta::seconds(10)));
    instants.by_ref().take_while(|instant| *instant > after).find(|instant| is_due(job, *instant))
}
