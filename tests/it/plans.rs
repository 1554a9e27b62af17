//! The plans of the questions asked most: what they read, and by which index.
//!
//! A plan that reads more than it must is slow only on a large database, so each test makes tables large enough for the
//! planner to have a choice, and fails with the plan printed.

use std::collections::HashMap;

use endpoint_stats::domain::HandSetClock;
use endpoint_stats::jobs::{Jobs, JobsConfig};
use endpoint_stats::store::{Store, StoreConfig, sql};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::harness::{Database, Setup, at};

/// Thirty days of hours and a day of minutes of 20 endpoints, the view refreshed through yesterday; two closed days of raw
/// requests, the older with the index of earlier versions.
const HISTORY: &str = "
    SET timezone = 'UTC';
    INSERT INTO endpoints (service, method, route) SELECT 'shop', 'GET', '/things/' || n FROM generate_series(1, 20) AS n;
    INSERT INTO endpoint_hourly_stats
    SELECT hour, endpoint, 60, 0, 0, 1, 60, 6000, 1, 100, 60
    FROM generate_series('2026-10-22T00:00Z'::timestamptz, '2026-11-21T10:00Z', '1 hour') AS hour, generate_series(1, 20) AS endpoint;
    INSERT INTO endpoint_minute_stats
    SELECT minute, endpoint, 1, 0, 0, 0, 1, 100, 1, 100, 1
    FROM generate_series('2026-11-20T10:00Z'::timestamptz, '2026-11-21T10:20Z', '1 minute') AS minute, generate_series(1, 20) AS endpoint;
    REFRESH MATERIALIZED VIEW endpoint_daily_stats;
    UPDATE rollup_state SET view_through = '2026-11-20', minutes_since = '2026-11-20T10:00Z';
    SELECT ensure_requests_day('2026-11-18'), ensure_requests_day('2026-11-19');
    INSERT INTO requests
    SELECT '2026-11-18'::timestamptz + n / 20 * interval '3 seconds', 100, 1 + n % 20, 200 FROM generate_series(0, 1151999) AS n;
    CREATE INDEX idx_requests_endpoint_timestamp_20261118 ON requests_20261118 (endpoint_id, timestamp);";

/// A statement of the service.
fn statement(file: &str) -> &'static str {
    sql::ALL.iter().find(|statement| statement.file == file).map(|statement| statement.sql).unwrap()
}

/// A row of a plan: what is read, by which index, and how many rows came of it.
fn reads(plan: &serde_json::Value, into: &mut HashMap<String, u64>) {
    if let Some(relation) = plan["Relation Name"].as_str() {
        // What a BRIN's blocks held besides is told apart from what a filter turned away.
        let removed = ["Rows Removed by Filter", "Rows Removed by Index Recheck"];
        let removed: f64 = removed.iter().filter_map(|removed| plan[*removed].as_f64()).sum();
        let rows = plan["Actual Rows"].as_f64().unwrap() + removed;
        *into.entry(relation.to_owned()).or_default() += (rows * plan["Actual Loops"].as_f64().unwrap()) as u64;
    }
    plan["Plans"].as_array().into_iter().flatten().for_each(|plan| reads(plan, into));
}

/// The plan of a statement for these arguments, as a question's session plans it, and the rows that it read by table.
async fn explain(client: &Client, types: &str, statement: &str, arguments: &str) -> (String, HashMap<String, u64>) {
    client.batch_execute(&format!("PREPARE asked ({types}) AS {statement}")).await.unwrap();
    let told =
        client.simple_query(&format!("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked ({arguments})")).await.unwrap();
    client.batch_execute("DEALLOCATE asked").await.unwrap();
    let rows = told.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let plan: serde_json::Value = serde_json::from_str(&rows.collect::<Vec<_>>().join("\n")).unwrap();
    let mut read = HashMap::new();
    reads(&plan[0]["Plan"], &mut read);
    (serde_json::to_string_pretty(&plan).unwrap(), read)
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_read_what_they_tell_and_little_else() {
    let database = Database::create().await;
    database.execute(HISTORY).await;
    // Made as the job makes it.
    let config = StoreConfig { url: database.url().to_owned(), pool_min: 0, pool_max: 2 };
    let store = Store::new(&config).unwrap();
    let clock = HandSetClock::at(at("2026-11-21T10:20:30Z")).clock();
    let jobs = Jobs::new(store.into(), clock, JobsConfig::new(Setup::default().retention));
    jobs.partitions().await.unwrap();
    database.execute("VACUUM ANALYZE").await;
    // Closed days are found by minutes that are stored once: fewer than 10 bytes a row.
    let sizes = "SELECT pg_relation_size('idx_requests_endpoint_minute_20261119') * 3 - pg_relation_size('idx_requests_endpoint_timestamp_20261118')";
    assert!(database.number(sizes).await < 0);

    let client = database.connect().await;
    client.batch_execute("SET timezone = 'UTC'; SET jit = off; SET plan_cache_mode = force_custom_plan").await.unwrap();
    let no_more_than = |(plan, read): (String, HashMap<String, u64>), most: &[(&str, u64)]| {
        for (table, rows) in &read {
            let most = most.iter().find(|(name, _)| table.starts_with(name)).map_or(0, |(_, most)| *most);
            // The tables of one row, and the endpoints, are read by everybody.
            assert!(
                *rows <= most || ["rollup_state", "endpoints"].contains(&table.as_str()),
                "{rows} of {table}: {plan}"
            );
        }
    };

    let types = "timestamptz[], timestamptz[], text, text, text, integer";
    for (from, to, most) in [
        // Fifty-five minutes and, of the hour that has not closed, one row an endpoint.
        ("2026-11-21T09:05Z", "2026-11-21T10:26Z", &[("endpoint_minute", 1_100), ("endpoint_hourly", 20)][..]),
        ("2026-11-20T10:05Z", "2026-11-21T10:26Z", &[("endpoint_minute", 1_100), ("endpoint_hourly", 480)]),
        ("2026-10-22T10:00Z", "2026-11-21T10:26Z", &[("endpoint_daily", 580), ("endpoint_hourly", 500)]),
        // Days alone; and one look whether there are minutes behind the window.
        ("2026-10-22T00:00Z", "2026-11-21T00:00Z", &[("endpoint_daily", 600), ("endpoint_minute", 1)]),
    ] {
        let arguments = format!("ARRAY['{from}'::timestamptz], ARRAY['{to}'::timestamptz], NULL, NULL, NULL, NULL");
        no_more_than(explain(&client, types, statement("endpoint_totals.sql"), &arguments).await, most);
        // One endpoint: by its index.
        let most: Vec<_> = most.iter().map(|(table, rows)| (*table, (rows / 20).max(1))).collect();
        let arguments = format!("ARRAY['{from}'::timestamptz], ARRAY['{to}'::timestamptz], NULL, NULL, NULL, 7");
        no_more_than(explain(&client, types, statement("endpoint_totals.sql"), &arguments).await, &most);
    }

    // A hundred of an endpoint's 28,800 a day, wherever its days have which index. Of the newest no more than an hour is read;
    // of the slowest, and of the failed where there are not a hundred, all of that endpoint's and none of another's.
    let shortened = "integer, timestamptz, timestamptz, bigint, boolean, boolean";
    let asked = |day: &str| format!("7, '2026-11-{day}T00:00Z', '2026-11-{day}T23:00Z', 100");
    for day in ["18", "19"] {
        for (only_failed, most) in [(false, 2_400), (true, 28_800)] {
            let arguments = format!("{}, true, {only_failed}", asked(day));
            let told = explain(&client, shortened, statement("requests_newest.sql"), &arguments).await;
            no_more_than(told, &[("requests_", most), ("endpoint_hourly", 46)]);
        }
        let types = "integer, timestamptz, timestamptz, bigint";
        let told = explain(&client, types, statement("requests_slowest.sql"), &asked(day)).await;
        no_more_than(told, &[("requests_", 28_800)]);
    }
}
