//! Migrations and statements.

use std::collections::BTreeSet;

use endpoint_stats::store::{migrate, sql};

use crate::harness::{Database, process};

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
