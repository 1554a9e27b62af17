//! What is kept only for a while: idempotency keys and runs of jobs.

use chrono::Utc;
use endpoint_stats::jobs::Job;

use super::perform;
use crate::harness::{Database, NOW, TestApp, process, record};

/// Sends a record under a key, and says whether it was known.
async fn replayed(app: &TestApp, key: &str) -> bool {
    let body = record("2026-11-21T10:00:00Z", "/items/{id}", 1.0).to_string();
    let response = app.post("application/json", body).header("Idempotency-Key", key).send().await.unwrap();
    assert_eq!(response.status(), 200, "{key}");
    response.headers().contains_key("idempotency-replayed")
}

async fn keys(database: &Database) -> i64 {
    database.number("SELECT count(*) FROM ingest_batches").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_forgotten_when_its_time_is_over_and_not_a_moment_before() {
    let app = TestApp::start().await;
    for key in ["new", "just-kept", "just-expired", "import:file:7", "demo:2026-01-01T00:00Z", "imported"] {
        assert!(!replayed(&app, key).await);
    }
    let age = async |key: &str, age: &str| {
        let statement = format!(
            "UPDATE ingest_batches SET received_at = '{NOW}'::timestamptz - interval '{age}' WHERE idempotency_key = '{key}'"
        );
        app.database.execute(&statement).await;
    };
    age("new", "1 minute").await;
    age("just-kept", "7 days").await;
    age("just-expired", "7 days 00:00:00.000001").await;
    age("import:file:7", "399 days").await;
    age("demo:2026-01-01T00:00Z", "399 days").await;
    age("imported", "399 days").await;

    assert_eq!(perform(&app, Job::Housekeeping).await.rows, 2);
    for (key, known) in [
        ("new", true),
        ("just-kept", true),
        ("just-expired", false),
        ("import:file:7", true),
        ("demo:2026-01-01T00:00Z", true),
        ("imported", false),
    ] {
        assert_eq!(replayed(&app, key).await, known, "{key}");
    }
    assert_eq!(app.get("/api/v1/overview").await["total"]["requests"], 8);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_imported_long_ago_does_not_count_twice() {
    let app = TestApp::start().await;
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("records.ndjson").display().to_string();
    let lines: Vec<_> =
        (0..50).map(|n| record(&Utc::now().to_rfc3339(), "/items/{id}", f64::from(n)).to_string() + "\n").collect();
    std::fs::write(&path, lines.concat()).unwrap();
    let first = process::run(&app.database, &["import", &path]).await;
    assert!(first.stdout.contains("50 records in, 0 rejected"), "{}{}", first.stdout, first.stderr);
    app.database
        .execute(&format!("UPDATE ingest_batches SET received_at = '{NOW}'::timestamptz - interval '300 days'"))
        .await;
    assert_eq!(perform(&app, Job::Housekeeping).await.rows, 0);
    let second = process::run(&app.database, &["import", &path]).await;
    assert!(second.stdout.contains("0 records in, 0 rejected, 50 lines were in already"), "{}", second.stdout);
    assert_eq!(app.database.number("SELECT count(*) FROM requests").await, 50);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_expired_keys_go_in_pieces() {
    let app = TestApp::start().await;
    app.database
        .execute(&format!(
            "INSERT INTO ingest_batches (idempotency_key, body_hash, answer, received_at)
             SELECT CASE WHEN n % 100 = 0 THEN 'import:' || n ELSE 'key-' || n END, '', '{{}}', '{NOW}'::timestamptz - interval '8 days'
             FROM generate_series(1, 45000) AS n"
        ))
        .await;
    assert_eq!(perform(&app, Job::Housekeeping).await.rows, 44_550);
    assert_eq!(keys(&app.database).await, 450);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_runs_of_jobs_go_but_never_the_last_of_a_job_nor_one_that_nobody_has_finished() {
    let app = TestApp::start().await;
    let rows = [
        // job, age, outcome, by hand, whether it stays
        ("fold", "7 days 00:00:00.000001", "succeeded", false, false),
        ("fold", "7 days", "succeeded", false, true),
        ("fold", "1 minute", "succeeded", false, true),
        ("reindex", "51 days", "failed", false, false),
        ("reindex", "20 days", "succeeded", false, true),
        ("analyze", "10 days", "new", false, true),
        ("vacuum", "30 days", "new", false, false),
        ("vacuum", "9 days", "failed", false, true),
        // The last that was due stays beside a later one by hand: it says that its slot has been run.
        ("verify", "40 days", "succeeded", false, false),
        ("verify", "12 days", "succeeded", false, true),
        ("verify", "11 days", "succeeded", true, false),
        ("verify", "10 days", "succeeded", true, true),
        ("retention", "30 days", "running", false, true),
        ("retention", "29 days", "interrupted", false, true),
        ("retention", "28 days", "succeeded", false, true),
    ];
    for (job, age, outcome, by_hand, _) in rows {
        app.database
            .execute(&format!(
                "INSERT INTO job_runs (job, slot, outcome, by_hand)
                 VALUES ('{job}', '{NOW}'::timestamptz - interval '{age}', '{outcome}', {by_hand})"
            ))
            .await;
    }
    let gone = rows.iter().filter(|(.., stays)| !stays).count() as u64;
    assert_eq!(perform(&app, Job::Housekeeping).await.rows, gone);
    for (job, age, _, _, stays) in rows {
        let row = format!(
            "SELECT count(*) FROM job_runs WHERE job = '{job}' AND slot = '{NOW}'::timestamptz - interval '{age}'"
        );
        assert_eq!(app.database.number(&row).await == 1, stays, "{job} of {age} ago");
    }
    let kept = app.jobs.last_runs(&Job::ALL, 100).await.unwrap();
    assert!(kept.iter().any(|run| run.job == "housekeeping"), "its own is there");
    app.stop().await;
}
