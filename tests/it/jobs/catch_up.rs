//! What runs after a time in which nobody ran, and after a failure.

use chrono::{DateTime, TimeDelta, Utc};
use endpoint_stats::domain::HandSetClock;
use endpoint_stats::jobs::{Begun, Job, Jobs};
use endpoint_stats::store::Outcome;
use tokio_util::sync::CancellationToken;

use super::fleet::{FAST, Watch, is_due, last_due, only, scheduled};
use crate::harness::{Database, NOW, at, until};

/// A service with one job, which is started and stopped.
struct Service {
    database: Database,
    watch: Watch,
    clock: HandSetClock,
    job: Job,
    schedule: &'static str,
}

impl Service {
    async fn new(job: Job, schedule: &'static str) -> Self {
        let database = Database::create().await;
        // Whoever asks for a slot is noted, also where there is none to have.
        database
            .execute(
                "CREATE TABLE asked (at timestamptz);
                 CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO asked VALUES (now()); RETURN NULL; END';
                 CREATE TRIGGER note AFTER INSERT ON job_runs FOR EACH STATEMENT EXECUTE FUNCTION note()",
            )
            .await;
        let watch = Watch::on(&database).await;
        Self { database, watch, clock: HandSetClock::at(at(NOW)), job, schedule }
    }

    fn jobs(&self) -> Jobs {
        scheduled(self.database.url(), self.clock.clock(), only(self.job, self.schedule)).looking_every(FAST)
    }

    /// Starts it, and stops it when it has found out what there is to do, and done it. Tells the slots that it ran.
    async fn up(&self) -> Vec<DateTime<Utc>> {
        let before = self.watch.lines().await;
        let asked = async || self.watch.number("SELECT count(*) FROM asked").await;
        let asked_before = asked().await;
        let stop = CancellationToken::new();
        let running = tokio::spawn(self.jobs().run(true, stop.clone()));
        until("it asks", async || asked().await > asked_before).await;
        let done = async || self.watch.lines().await.iter().all(|line| line.outcome == "succeeded");
        // Every try opens a session, so not before there is nothing left.
        until("it has run it", async || done().await && matches!(self.begin().await, Begun::Settled)).await;
        stop.cancel();
        running.await.unwrap();
        let mut lines = self.watch.lines().await;
        assert!(lines.iter().all(|line| line.outcome == "succeeded"), "{lines:#?}");
        lines.retain(|line| !before.contains(line));
        lines.iter().map(|line| line.slot).collect()
    }

    async fn begin(&self) -> Begun {
        self.jobs().begin(self.job, false).await.unwrap()
    }
}

/// Slots after `instant`, in their order.
fn slots_after(job: Job, instant: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
    let instants = std::iter::successors(Some(instant), |instant| Some(*instant + TimeDelta::seconds(10)));
    instants.skip(1).filter(move |instant| is_due(job, *instant))
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_time_in_which_nobody_ran_the_last_slot_is_made_up_for_once() {
    // How many slots go by without a service, and which of them run when it is back.
    let table: [(usize, &[usize]); 4] = [(0, &[]), (1, &[1]), (3, &[3]), (1, &[1])];
    for job in Job::ALL {
        let service = Service::new(job, job.default_schedule()).await;
        // On a new database.
        let at_once = [Job::Fold, Job::Refresh, Job::Partitions].contains(&job);
        let expected = if at_once { vec![last_due(job, at(NOW))] } else { vec![] };
        assert_eq!(service.up().await, expected, "{job} on a new database");

        let mut slots = slots_after(job, at(NOW));
        let first = slots.next().unwrap();
        service.clock.set(first);
        assert_eq!(service.up().await, [first], "{job} at its slot");
        for (missed, runs) in table {
            let gone_by: Vec<_> = slots.by_ref().take(missed).collect();
            let last = gone_by.last().copied().unwrap_or(service.clock.now());
            service.clock.set(last + TimeDelta::seconds(4));
            let expected: Vec<_> = runs.iter().map(|nth| gone_by[nth - 1]).collect();
            assert_eq!(service.up().await, expected, "{job} after {missed} slots");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_cut_off_when_everything_went_down_is_finished_and_the_last_slot_made_up_for() {
    for job in Job::ALL {
        let service = Service::new(job, job.default_schedule()).await;
        service.up().await;
        let slots: Vec<_> = slots_after(job, at(NOW)).take(4).collect();
        service.clock.set(slots[0]);
        until("its lock is free", async || matches!(service.begin().await, Begun::Won(_))).await;
        service.clock.set(slots[3]);
        assert_eq!(service.up().await, [slots[0], slots[3]], "{job}");
    }
}

/// Tries the job once. Whether there was something to try.
async fn tried(service: &Service) -> bool {
    loop {
        match service.begin().await {
            Begun::Won(run) => {
                let ended = run.perform(&CancellationToken::new(), None).await;
                assert_eq!(ended.ending.outcome, Outcome::Failed);
                return true;
            }
            // The session of the try before is just closing.
            Begun::Held => tokio::task::yield_now().await,
            Begun::Settled | Begun::Waiting(_) => return false,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_fails_is_tried_again_ever_later_by_the_clock_until_the_next_or_the_fifth_time() {
    // The fifth is the last: 1, 4, 16 and 64 minutes apart.
    let daily = ("0 10 * * *", "2026-11-21T10:00:00Z", [0, 1, 5, 21, 85]);
    let hourly = ("20 * * * *", "2026-11-21T10:20:00Z", [0, 1, 5, 21, 60]);
    for (schedule, slot, expected) in [daily, hourly] {
        let service = Service::new(Job::Partitions, schedule).await;
        service.database.execute("ALTER FUNCTION ensure_requests_day RENAME TO away").await;
        let mut minutes = Vec::new();
        // Half a minute before each minute too, so that nothing is tried early; none far from the others is tried at all.
        let half_minutes =
            (0..=46).chain(118..=120).chain((167..=174).chain([682, 684]).filter(|_| schedule == daily.0));
        for half_minute in half_minutes {
            service.clock.set(at(slot) + TimeDelta::seconds(30 * half_minute));
            while tried(&service).await {
                assert_eq!(half_minute % 2, 0);
                minutes.push(half_minute / 2);
            }
        }
        assert_eq!(minutes, expected, "{schedule}");
        let lines = service.watch.lines().await;
        assert_eq!(lines.iter().map(|line| line.attempts).sum::<i32>(), 5, "{lines:#?}");

        // When it can work again, the next slot does.
        service.database.execute("ALTER FUNCTION away RENAME TO ensure_requests_day").await;
        service.clock.advance(TimeDelta::days(1));
        let Begun::Won(run) = service.begin().await else { panic!("{schedule}: the next slot is due") };
        assert_eq!(run.perform(&CancellationToken::new(), None).await.ending.outcome, Outcome::Succeeded);
    }
}
