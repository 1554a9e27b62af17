//! `job list` and `job run`, by the real binary.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use endpoint_stats::domain::Clock;
use endpoint_stats::jobs::{Begun, Job, Jobs, JobsConfig, Retention};
use endpoint_stats::store::{Store, StoreConfig};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::harness::process::{command, run, signal};
use crate::harness::{Database, Held, until};

/// Counts of one endpoint that wait to be folded, as many as `number` minutes have.
async fn waiting(database: &Database, number: u32) {
    let insert = format!(
        "INSERT INTO endpoints (service, method, route) VALUES ('shop', 'GET', '/items');
         INSERT INTO rollup_deltas
         SELECT date_trunc('minute', now()) - n * interval '1 minute', (SELECT id FROM endpoints), 1, 0, 0, 0, 0, 0, NULL, NULL, 0
         FROM generate_series(1, {number}) AS n"
    );
    database.execute(&insert).await;
}

/// The jobs of a process on `database`.
fn jobs(database: &Database) -> Jobs {
    let config = StoreConfig { url: database.url().to_owned(), pool_min: 0, pool_max: 2 };
    let kept = Retention { raw: None, minutes: None, hours: None };
    Jobs::new(Arc::new(Store::new(&config).unwrap()), Clock::system(), JobsConfig::new(kept))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_run_by_hand_and_stands_in_the_list() {
    let database = Database::create().await;
    waiting(&database, 1_234).await;
    let folded = run(&database, &["job", "run", "fold"]).await;
    assert_eq!(folded.code, Some(0), "{}", folded.stderr);
    assert!(folded.stdout.starts_with("fold: succeeded, 1,234 counts moved in "), "{}", folded.stdout);
    assert_eq!(folded.stdout.lines().count(), 1, "{}", folded.stdout);
    assert_eq!(database.number("SELECT count(*) FROM rollup_deltas").await, 0);

    let list = run(&database, &["job", "list"]).await;
    assert_eq!((list.code, list.stderr.as_str()), (Some(0), ""));
    let lines: Vec<&str> = list.stdout.lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() <= 120), "a file has 120 columns: {}", list.stdout);
    let head: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(head, ["JOB", "SCHEDULE", "NEXT", "LAST", "OUTCOME", "TOOK", "ROWS", "ERROR"]);
    let names: Vec<&str> = lines[1..].iter().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, Job::ALL.map(Job::name));
    assert!(lines[1].contains("every 10s") && lines[1].contains("succeeded"), "{}", lines[1]);
    assert!(lines[1].ends_with("1,234"), "{}", lines[1]);
    let today = chrono::Utc::now().format("%Y-%m-%d ").to_string();
    assert!(lines[1].contains(&today), "{}", lines[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_as_json_is_what_the_api_says_by_the_schedules_that_are_set() {
    let database = Database::create().await;
    run(&database, &["job", "run", "partitions"]).await;
    let mut command = command(&["job", "list", "--format", "json", "--schedule-fold", "3s"]);
    let output = command.env("DATABASE_URL", database.url()).env("SCHEDULE_VERIFY", "off").output().await.unwrap();
    assert!(output.status.success());
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let job = |job: Job| &told["jobs"][job as usize];
    assert_eq!((&job(Job::Fold)["name"], &job(Job::Fold)["schedule"]), (&json!("fold"), &json!("every 3s")));
    assert_eq!((&job(Job::Verify)["schedule"], &job(Job::Verify)["next_slot"]), (&json!("off"), &Value::Null));
    let last = &job(Job::Partitions)["last"];
    assert_eq!((&last["outcome"], &last["by_hand"]), (&json!("succeeded"), &json!(true)), "{last}");
    assert_eq!(job(Job::Refresh)["last"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_says_why_and_is_seen_in_the_list() {
    let database = Database::create().await;
    waiting(&database, 1).await;
    database.execute("ALTER TABLE endpoint_minute_stats RENAME TO away").await;
    let failed = run(&database, &["job", "run", "fold"]).await;
    assert_eq!((failed.code, failed.stdout.as_str()), (Some(1), ""));
    let last = failed.stderr.lines().last().unwrap();
    assert!(last.starts_with("fold: failed after ") && last.contains("endpoint_minute_stats"), "{last}");
    let list = run(&database, &["job", "list"]).await;
    let fold = list.stdout.lines().nth(1).unwrap();
    assert!(fold.contains("FAILED") && fold.contains("Postgres refused"), "{fold}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_is_said() {
    let database = Database::create().await;
    for wrong in [&["job", "run", "folds"][..], &["job", "run"], &["job", "run", "fold", "refresh"], &["job"]] {
        assert_eq!(run(&database, wrong).await.code, Some(2), "{wrong:?}");
    }
    let unknown = run(&database, &["job", "run", "folds"]).await;
    assert!(unknown.stderr.contains("the jobs are fold, refresh, partitions, retention"), "{}", unknown.stderr);

    let Begun::Won(held) = jobs(&database).begin(Job::Fold, true).await.unwrap() else { panic!("it can be begun") };
    let second = run(&database, &["job", "run", "fold"]).await;
    assert_eq!((second.code, second.stdout.as_str()), (Some(1), ""));
    assert!(second.stderr.contains("fold is running already"), "{}", second.stderr);
    let list = run(&database, &["job", "list"]).await;
    assert!(list.stdout.lines().nth(1).unwrap().contains(" running "), "{}", list.stdout);
    held.perform(&CancellationToken::new(), None).await;
    assert_eq!(run(&database, &["job", "run", "fold"]).await.code, Some(0));

    let empty = Database::empty().await;
    for what in [&["job", "list"][..], &["job", "run", "fold"]] {
        let refused = run(&empty, what).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{what:?}");
    }
    assert_eq!(
        empty.number("SELECT count(*) FROM pg_class WHERE relname = 'requests'").await,
        0,
        "nothing is migrated"
    );
    let missing = command(&["job", "list"]).output().await.unwrap();
    assert!(String::from_utf8_lossy(&missing.stderr).contains("DATABASE_URL is missing"));
}

/// `job run fold` that waits, for as long as the lock is held, in the first of two pieces.
async fn in_its_first_piece(database: &Database) -> (tokio::process::Child, Held) {
    waiting(database, 70_000).await;
    let held = Held::on(database, "rollup_deltas").await;
    let child = command(&["job", "run", "fold"])
        .env("DATABASE_URL", database.url())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                 AND application_name = 'endpoint-stats job fold' AND wait_event_type = 'Lock'";
    until("it waits for the lock", async || database.number(waits).await == 1).await;
    (child, held)
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_looks_in_a_terminal_progress_is_told_in_lines() {
    let database = Database::create().await;
    let (child, held) = in_its_first_piece(&database).await;
    held.release().await;
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "fold: begun\nfold: folding, 60,000 counts moved\n");
    assert!(output.stdout.starts_with(b"fold: succeeded, 70,000 counts moved in "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_a_run_between_two_pieces() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let database = Database::create().await;
        let (child, held) = in_its_first_piece(&database).await;
        signal(name, child.id().unwrap());
        // So much later it has heard for certain.
        tokio::time::sleep(Duration::from_millis(200)).await;
        held.release().await;
        let output = child.wait_with_output().await.unwrap();
        assert_eq!(output.status.code(), Some(code), "{name}");
        let last = String::from_utf8(output.stderr).unwrap().lines().last().unwrap().to_owned();
        assert!(last.starts_with("fold: interrupted after ") && last.contains("60,000 counts moved"), "{last}");
        assert_eq!(database.number("SELECT count(*) FROM rollup_deltas").await, 10_000);
        let list = run(&database, &["job", "list"]).await;
        assert!(list.stdout.lines().nth(1).unwrap().contains("interrupted"), "{}", list.stdout);
        let rest = run(&database, &["job", "run", "fold"]).await;
        assert!(rest.stdout.starts_with("fold: succeeded, 10,000 counts moved in "), "{}", rest.stdout);
    }
}
