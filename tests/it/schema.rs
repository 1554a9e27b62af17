//! Migrations and statements.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use endpoint_stats::store::{migrate, sql};

use crate::harness::{Database, process, until};

#[tokio::test(flavor = "multi_thread")]
async fn five_processes_that_migrate_at_once_run_each_migration_once() {
    let database = Database::empty().await;
    let migrations = (0..5).map(|_| migrate(database.url()));
    let ran: Vec<usize> =
        futures_util::future::join_all(migrations).await.into_iter().map(|names| names.unwrap().len()).collect();
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap().count();
    assert_eq!(ran.iter().filter(|count| **count == files).count(), 1, "{ran:?}");
    assert_eq!(ran.iter().sum::<usize>(), files, "{ran:?}");
    assert_eq!(database.number("SELECT count(*) FROM refinery_schema_history").await, files as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_migrates_and_says_what_it_did() {
    let database = Database::empty().await;
    let first = process::run(&database, &["migrate"]).await;
    assert_eq!((first.code, first.stdout.contains("V1__core")), (Some(0), true), "{}{}", first.stdout, first.stderr);
    let second = process::run(&database, &["migrate"]).await;
    assert_eq!((second.code, second.stdout.as_str()), (Some(0), "The schema is up to date.\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_newer_than_the_schema_waits_until_somebody_migrates() {
    let database = Database::empty().await;
    let serving = process::serve(&database, &[("MIGRATE", "off"), ("JOBS", "off")]);
    let migrating = async {
        // As soon as it is there, which it would not be for long if it did not wait.
        let connected = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'endpoint-stats'";
        until("it has asked", async || database.number(connected).await > 0).await;
        migrate(database.url()).await.unwrap();
    };
    let ((mut child, address), ()) = tokio::join!(serving, migrating);
    assert!(reqwest::get(format!("{address}/api/v1/overview")).await.unwrap().status().is_success());
    child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_has_to_wait_keeps_no_reader_out_for_long() {
    let database = Database::create().await;
    // As it was before the third.
    database
        .execute(
            "DELETE FROM refinery_schema_history WHERE version = 3;
             ALTER TABLE rollup_state DROP COLUMN hours_since, DROP COLUMN is_served;
             ALTER TABLE job_runs DROP CONSTRAINT job_runs_outcome, DROP COLUMN attempts, DROP COLUMN started_at,
                 DROP COLUMN by_hand, DROP COLUMN retry_at, DROP COLUMN runner;
             DROP INDEX idx_job_runs_unfinished",
        )
        .await;
    let dump = database.connect().await;
    dump.batch_execute("BEGIN; SELECT * FROM rollup_state").await.unwrap();
    let reading = async {
        let reader = database.connect().await;
        let (mut slowest, began) = (Duration::ZERO, Instant::now());
        while began.elapsed() < Duration::from_secs(3) {
            let asked = Instant::now();
            reader.query("SELECT data_generation FROM rollup_state", &[]).await.unwrap();
            slowest = slowest.max(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        dump.batch_execute("COMMIT").await.unwrap();
        slowest
    };
    let (migrated, slowest) = tokio::join!(migrate(database.url()), reading);
    assert_eq!(migrated.unwrap().len(), 1);
    println!("the slowest reader beside a migration that waited: {slowest:?}");
    assert!(slowest < Duration::from_millis(2_500), "{slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_fits_the_schema_and_says_what_it_answers() {
    let database = Database::create().await;
    let client = database.connect().await;
    for statement in sql::ALL {
        assert!(statement.sql.starts_with("-- name: "), "{}", statement.file);
        if statement.sql.contains("COPY ") {
            continue; // COPY cannot be prepared; the ingest tests run it
        }
        client.prepare(statement.sql).await.unwrap_or_else(|error| panic!("{}: {error:?}", statement.file));
    }
    let bound: BTreeSet<String> = sql::ALL.iter().map(|statement| statement.file.to_owned()).collect();
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/sql")).unwrap();
    let files: BTreeSet<String> = folder.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(bound, files);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_and_column_is_explained() {
    let database = Database::create().await;
    let client = database.connect().await;
    let silent = client
        .query(
            "SELECT c.relname || COALESCE('.' || a.attname, '')
             FROM pg_class c
             JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
             LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             WHERE c.relkind IN ('r', 'p', 'm') AND c.relname <> 'refinery_schema_history'
               AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid) IS NULL)",
            &[],
        )
        .await
        .unwrap();
    let silent: Vec<String> = silent.iter().map(|row| row.get(0)).collect();
    assert_eq!(silent, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daily_view_can_be_refreshed_while_it_is_read() {
    let database = Database::create().await;
    let view = "SELECT count(*) FROM pg_matviews WHERE matviewname = 'endpoint_daily_stats' AND ispopulated";
    assert_eq!(database.number(view).await, 1);
    // Fails without a unique index on plain columns.
    database.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY endpoint_daily_stats").await;
    let indexes =
        "SELECT count(*) FROM pg_indexes WHERE indexname IN ('idx_requests_timestamp', 'idx_requests_endpoint')";
    assert_eq!(database.number(indexes).await, 2);
}
