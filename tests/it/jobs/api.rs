//! Maintenance over HTTP: how it goes, and a job at once.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use endpoint_stats::domain::{ApiKey, Scope};
use endpoint_stats::jobs::{Begun, Job, Run};
use endpoint_stats::store::Outcome;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::harness::{Held, Setup, TestApp, header, record, until};

const JOBS: &str = "/api/v1/jobs";

async fn run(app: &TestApp, job: &str) -> Response {
    app.request(Method::POST, &format!("{JOBS}/{job}/run")).send().await.unwrap()
}

/// How a job is told in the list.
async fn told(app: &TestApp, job: Job) -> Value {
    let list = app.get(JOBS).await;
    list["jobs"].as_array().unwrap().iter().find(|told| told["name"] == job.name()).unwrap().clone()
}

/// A run that is claimed, and not performed until the test says so.
async fn begun(app: &TestApp, job: Job, by_hand: bool) -> Box<Run> {
    match app.jobs.begin(job, by_hand).await.unwrap() {
        Begun::Won(run) => run,
        _ => panic!("{job} cannot be begun"),
    }
}

/// Insists on a problem of this status and code.
async fn refused(response: Response, status: u16, code: &str) -> Value {
    let what = format!("{response:?}");
    assert_eq!(response.status().as_u16(), status, "{what}");
    assert_eq!(header(&response, "content-type"), "application/problem+json", "{what}");
    assert_eq!(header(&response, "cache-control"), "no-store", "{what}");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["code"], code, "{problem}");
    problem
}

#[tokio::test(flavor = "multi_thread")]
async fn every_job_is_told_with_its_schedule_and_its_next_slot() {
    let app = TestApp::start().await;
    let response = app.request(Method::GET, JOBS).send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "cache-control")), (200, "no-store"));
    let list: Value = response.json().await.unwrap();
    let jobs = list["jobs"].as_array().unwrap();
    // The clock stands at 2026-11-21T10:20:30Z, a Saturday.
    let expected = [
        ("fold", "every 10s", "2026-11-21T10:20:40Z"),
        ("refresh", "5-59/15 * * * *", "2026-11-21T10:35:00Z"),
        ("partitions", "0 * * * *", "2026-11-21T11:00:00Z"),
        ("retention", "0 1 * * *", "2026-11-22T01:00:00Z"),
        ("cache_cleanup", "0 2 * * *", "2026-11-22T02:00:00Z"),
        ("housekeeping", "30 2 * * *", "2026-11-22T02:30:00Z"),
        ("analyze", "10 3 * * *", "2026-11-22T03:10:00Z"),
        ("vacuum", "30 3 * * SUN", "2026-11-22T03:30:00Z"),
        ("reindex", "0 4 1 * *", "2026-12-01T04:00:00Z"),
        ("verify", "0 5 * * *", "2026-11-22T05:00:00Z"),
    ];
    assert_eq!(jobs.len(), expected.len());
    for (job, (name, schedule, next)) in jobs.iter().zip(expected) {
        assert_eq!(
            (&job["name"], &job["schedule"], &job["next_slot"], &job["state"], &job["last"]),
            (&json!(name), &json!(schedule), &json!(next), &json!("idle"), &Value::Null)
        );
        assert!(job["does"].as_str().is_some_and(|text| text.len() > 10), "{job}");
        let one = app.get(&format!("{JOBS}/{name}")).await;
        assert_eq!((&one["name"], &one["does"], &one["runs"]), (&job["name"], &job["does"], &json!([])));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_asked_for_runs_and_says_what_came_of_it() {
    let app = TestApp::start().await;
    app.accept(&[record("2026-11-21T10:00:00Z", "/items", 1.0), record("2026-11-21T10:01:00Z", "/items", 1.0)]).await;
    let response = run(&app, "fold").await;
    assert_eq!((response.status().as_u16(), header(&response, "location")), (202, "/api/v1/jobs/fold"));
    assert_eq!(header(&response, "cache-control"), "no-store");
    let begun: Value = response.json().await.unwrap();
    // A little behind the full second, which may be a slot of the schedule.
    assert_eq!(begun, json!({"job": "fold", "slot": "2026-11-21T10:20:30.000001Z", "state": "running"}));

    until("it has ended", async || told(&app, Job::Fold).await["state"] == "idle").await;
    let last = told(&app, Job::Fold).await["last"].take();
    assert_eq!((&last["slot"], &last["outcome"]), (&begun["slot"], &json!("succeeded")), "{last}");
    assert_eq!((&last["rows"], &last["rows_are"]), (&json!(2), &json!("counts moved")), "{last}");
    assert_eq!((&last["by_hand"], &last["attempts"]), (&json!(true), &json!(1)), "{last}");
    assert_eq!((&last["error"], &last["retry_at"]), (&Value::Null, &Value::Null), "{last}");
    assert!(last["duration_ms"].is_u64() && last["started_at"].is_string(), "{last}");
    assert_eq!(app.database.number("SELECT count(*) FROM rollup_deltas").await, 0);

    // On schedule too; and of many runs the last twenty are told, the newest first.
    for _ in 0..21 {
        app.clock.advance(TimeDelta::seconds(10));
        begun_and_performed(&app).await;
    }
    let one = app.get("/api/v1/jobs/fold").await;
    let slots: Vec<&str> = one["runs"].as_array().unwrap().iter().map(|run| run["slot"].as_str().unwrap()).collect();
    assert_eq!((slots.len(), slots[0], slots[19]), (20, "2026-11-21T10:24:00Z", "2026-11-21T10:20:50Z"));
    assert_eq!((&one["last"], &one["last"]["by_hand"]), (&one["runs"][0], &json!(false)));
}

async fn begun_and_performed(app: &TestApp) {
    let ended = begun(app, Job::Fold, false).await.perform(&CancellationToken::new(), None).await;
    assert_eq!(ended.ending.outcome, Outcome::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_job_runs_anywhere_it_is_not_begun_again() {
    let app = TestApp::start().await;
    let held = begun(&app, Job::Verify, true).await;
    let running = told(&app, Job::Verify).await;
    assert_eq!((&running["state"], &running["last"]["outcome"]), (&json!("running"), &json!("running")));
    assert_eq!((&running["last"]["duration_ms"], &running["last"]["by_hand"]), (&Value::Null, &json!(true)));
    assert_eq!(told(&app, Job::Fold).await["state"], "idle", "another job is another matter");

    app.clock.advance(TimeDelta::seconds(1));
    let response = run(&app, "verify").await;
    assert_eq!(header(&response, "retry-after"), "2");
    refused(response, 409, "job-already-running").await;
    held.perform(&CancellationToken::new(), None).await;
    assert_eq!(told(&app, Job::Verify).await["state"], "idle");
    assert_eq!(run(&app, "verify").await.status().as_u16(), 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_process_died_is_told_as_interrupted() {
    let app = TestApp::start().await;
    drop(begun(&app, Job::Fold, false).await);
    until("Postgres has seen its end", async || told(&app, Job::Fold).await["state"] == "interrupted").await;
    let last = told(&app, Job::Fold).await["last"].take();
    assert_eq!((&last["outcome"], &last["slot"]), (&json!("interrupted"), &json!("2026-11-21T10:20:30Z")));
    // Whoever takes it up finishes it.
    begun_and_performed(&app).await;
    let last = told(&app, Job::Fold).await["last"].take();
    assert_eq!((&last["outcome"], &last["attempts"]), (&json!("succeeded"), &json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_failed_says_why_and_one_by_hand_is_not_tried_again() {
    let app = TestApp::start().await;
    app.accept(&[record("2026-11-21T10:00:00Z", "/items", 1.0)]).await;
    app.database.execute("ALTER TABLE endpoint_minute_stats RENAME TO away").await;
    assert_eq!(run(&app, "fold").await.status().as_u16(), 202);
    until("it has failed", async || told(&app, Job::Fold).await["state"] == "idle").await;
    let last = told(&app, Job::Fold).await["last"].take();
    assert_eq!((&last["outcome"], &last["retry_at"]), (&json!("failed"), &Value::Null), "{last}");
    assert!(last["error"].as_str().unwrap().contains("endpoint_minute_stats"), "{last}");

    app.clock.advance(TimeDelta::seconds(10));
    begun(&app, Job::Fold, false).await.perform(&CancellationToken::new(), None).await;
    let last = told(&app, Job::Fold).await["last"].take();
    assert_eq!((&last["outcome"], &last["retry_at"]), (&json!("failed"), &json!("2026-11-21T10:21:40Z")), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_that_are_asked_at_once_one_begins() {
    let app = TestApp::start().await;
    let other = TestApp::on(Arc::clone(&app.database), Setup::default()).await;
    // Two people, two instants.
    other.clock.advance(TimeDelta::seconds(1));
    let held = Held::on(&app.database, "rollup_deltas").await;
    let (one, another) = tokio::join!(run(&app, "fold"), run(&other, "fold"));
    let mut statuses = [one.status().as_u16(), another.status().as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 409]);
    held.release().await;
    for replica in [&app, &other] {
        until("both see its end", async || told(replica, Job::Fold).await["last"]["outcome"] == "succeeded").await;
        assert_eq!(replica.get("/api/v1/jobs/fold").await["runs"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_stops_ends_what_was_begun_by_hand() {
    let app = TestApp::start().await;
    let database = Arc::clone(&app.database);
    let held = Held::on(&database, "rollup_deltas").await;
    assert_eq!(run(&app, "fold").await.status().as_u16(), 202);
    let stopping = tokio::spawn(app.stop());
    // A third of what a job may take to end its piece.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!stopping.is_finished(), "it waits");
    held.release().await;
    stopping.await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM job_runs WHERE outcome = 'succeeded' AND by_hand").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_key_of_the_scope_admin_opens_maintenance() {
    let app = TestApp::with(Setup { auth: true, ..Setup::default() }).await;
    let requests = [(Method::GET, JOBS), (Method::GET, "/api/v1/jobs/fold"), (Method::POST, "/api/v1/jobs/fold/run")];
    for (method, path) in &requests {
        refused(app.request(method.clone(), path).send().await.unwrap(), 401, "unauthorized").await;
    }
    for (scope, expected) in [(Scope::Read, 403), (Scope::Ingest, 403), (Scope::Admin, 200)] {
        let key = ApiKey::generate().unwrap();
        assert!(app.store.create_api_key(scope.name(), key.prefix(), &key.hash(), scope).await.unwrap());
        for (method, path) in &requests {
            let response = app.request(method.clone(), path).bearer_auth(key.reveal()).send().await.unwrap();
            if expected == 403 {
                let problem = refused(response, 403, "forbidden").await;
                assert_eq!(problem["detail"], "This resource needs a key of the scope admin.");
            } else {
                let expected = if *method == Method::POST { 202 } else { expected };
                assert_eq!(response.status().as_u16(), expected, "{method} {path}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_job_and_what_is_no_method_is_refused_by_name() {
    let app = TestApp::start().await;
    for path in ["/api/v1/jobs/FOLD", "/api/v1/jobs/folds", "/api/v1/jobs/%00", "/api/v1/jobs/fold%2frun"] {
        let problem = refused(app.request(Method::GET, path).send().await.unwrap(), 404, "no-such-job").await;
        assert!(problem["detail"].as_str().unwrap().contains("fold, refresh, partitions, retention"), "{problem}");
    }
    refused(run(&app, "nothing").await, 404, "no-such-job").await;
    let with_query = app.request(Method::POST, "/api/v1/jobs/fold/run?now=1").send().await.unwrap();
    refused(with_query, 400, "invalid-parameter").await;
    for (method, path, allow) in [
        (Method::POST, JOBS, "GET, HEAD"),
        (Method::DELETE, "/api/v1/jobs/fold", "GET, HEAD"),
        (Method::GET, "/api/v1/jobs/fold/run", "POST"),
        (Method::HEAD, "/api/v1/jobs/fold/run", "POST"),
        (Method::PUT, "/api/v1/jobs/fold/run", "POST"),
    ] {
        let response = app.request(method.clone(), path).send().await.unwrap();
        assert_eq!((response.status().as_u16(), header(&response, "allow")), (405, allow), "{method} {path}");
    }
    for path in [JOBS, "/api/v1/jobs/fold"] {
        let head = app.request(Method::HEAD, path).send().await.unwrap();
        assert_eq!(head.status().as_u16(), 200, "{path}");
        assert!(head.bytes().await.unwrap().is_empty(), "{path}");
    }
    assert_eq!(app.database.number("SELECT count(*) FROM job_runs").await, 0, "nothing of it ran");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_means_nothing_to_a_run() {
    let app = TestApp::start().await;
    for (job, body) in
        [("verify", "{}".to_owned()), ("analyze", "not JSON".to_owned()), ("vacuum", "x".repeat(1 << 20))]
    {
        let request = app.request(Method::POST, &format!("{JOBS}/{job}/run")).body(body);
        assert_eq!(request.send().await.unwrap().status().as_u16(), 202, "{job}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_postgres_away_nothing_is_begun_and_no_state_is_made_up() {
    let app = TestApp::start().await;
    assert_eq!(app.get(JOBS).await["jobs"].as_array().unwrap().len(), 10);
    let shut = app.database.shut().await;
    for (method, path) in
        [(Method::GET, JOBS), (Method::GET, "/api/v1/jobs/fold"), (Method::POST, "/api/v1/jobs/fold/run")]
    {
        let response = app.request(method, path).send().await.unwrap();
        assert_eq!(header(&response, "retry-after"), "2", "{path}");
        refused(response, 503, "database-unavailable").await;
    }
    shut.open().await;
    until("it is back", async || app.request(Method::GET, JOBS).send().await.unwrap().status() == 200).await;
    assert_eq!(app.database.number("SELECT count(*) FROM job_runs").await, 0);
}
