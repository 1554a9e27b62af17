//! Postgres away, or slow: what was known is told, and marked as old.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;

use super::{Replicas, SETTLED, ask, hit, miss, yesterday};
use crate::harness::{Held, TestApp, until};

/// A question about the hour that has not ended.
const LIVE: &str = "/api/v1/endpoints/top?window=30d";

/// Longer than any answer lives, give or take a tenth; shorter than answers are known.
const OUT_OF_DATE: TimeDelta = TimeDelta::hours(20);

async fn get(app: &TestApp, path: &str) -> Response {
    app.request(Method::GET, path).send().await.unwrap()
}

/// Insists that an answer is the last known, and says so in every place.
async fn is_marked_stale(response: Response, age: TimeDelta, requests: i64) {
    assert_eq!(response.status(), StatusCode::OK);
    let headers = response.headers().clone();
    assert_eq!(headers["x-cache"], "stale");
    assert_eq!(headers["warning"], "110 - \"Response is Stale\"");
    assert_eq!(headers["cache-control"], "public, no-cache", "to be asked for again");
    assert_eq!(headers["age"], age.num_seconds().to_string());
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["cache"], "stale");
    assert!(body["warning"].as_str().unwrap().contains("out of date"), "{body}");
    assert_eq!(body["total"]["requests"], requests);
}

async fn is_unavailable(response: Response) {
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let headers = response.headers().clone();
    assert_eq!(
        (&headers["retry-after"], &headers["cache-control"]),
        (&"2".parse().unwrap(), &"no-store".parse().unwrap())
    );
    assert_eq!(response.json::<Value>().await.unwrap()["code"], "database-unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_postgres_away_the_last_known_answer_is_told_and_marked() {
    let app = TestApp::start().await;
    app.accept(&yesterday(3)).await;
    for path in [SETTLED, LIVE] {
        assert_eq!(ask(&app, path).await, miss(3));
    }
    let csv = format!("{SETTLED}&format=csv");
    assert_eq!(get(&app, &csv).await.headers()["x-cache"], "miss");

    let shut = app.database.shut().await;
    assert_eq!(ask(&app, SETTLED).await, hit(3), "what is fresh is told as ever");
    app.clock.advance(OUT_OF_DATE);
    is_marked_stale(get(&app, SETTLED).await, OUT_OF_DATE, 3).await;
    // Once it is known that Postgres is away, nobody waits for it who can be told something.
    let began = Instant::now();
    for _ in 0..20 {
        is_marked_stale(get(&app, SETTLED).await, OUT_OF_DATE, 3).await;
        is_marked_stale(get(&app, LIVE).await, OUT_OF_DATE, 3).await;
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let told = get(&app, &csv).await;
    assert_eq!((told.status(), &told.headers()["x-cache"]), (StatusCode::OK, &"stale".parse().unwrap()));
    // Who has it is told that it has not changed, and that it is old.
    let etag = get(&app, SETTLED).await.headers()["etag"].clone();
    let same = app.request(Method::GET, SETTLED).header("If-None-Match", etag).send().await.unwrap();
    assert_eq!((same.status(), &same.headers()["x-cache"]), (StatusCode::NOT_MODIFIED, &"stale".parse().unwrap()));

    // Nothing is known of this; and who wants the present state is not told an old one.
    is_unavailable(get(&app, "/api/v1/overview?window=7d").await).await;
    let anew = app.request(Method::GET, SETTLED).header("Cache-Control", "no-cache");
    is_unavailable(anew.send().await.unwrap()).await;

    shut.open().await;
    // It is looked after every two seconds.
    app.clock.advance(TimeDelta::seconds(3));
    assert_eq!(ask(&app, SETTLED).await, miss(3), "and all is well again");
    assert_eq!(ask(&app, LIVE).await, miss(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_is_known_for_a_day_and_to_every_replica() {
    let (replicas, first) = Replicas::first(3).await;
    let (second, third) = (replicas.another(&first).await, replicas.another(&first).await);
    assert_eq!(ask(&first, SETTLED).await, miss(3));
    replicas.only_key(&first, SETTLED).await;
    // A day that changed has another generation: its old answer is no hit any more, but better than none.
    first.fold().await;
    first.accept(&yesterday(4)).await;
    first.fold().await;
    second.jobs.synchronise().await.unwrap();

    let _shut = first.database.shut().await;
    for replica in [&second, &third] {
        replica.clock.advance(OUT_OF_DATE);
        // Redis has 50 ms; one that was too busy is asked again.
        until("the replica tells what the first has made", async || {
            get(replica, SETTLED).await.status() == StatusCode::OK
        })
        .await;
        is_marked_stale(get(replica, SETTLED).await, OUT_OF_DATE, 3).await;
    }
    second.clock.advance(TimeDelta::hours(5));
    is_unavailable(get(&second, SETTLED).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_new_answer_is_made_the_others_are_told_the_old_one() {
    let app = Arc::new(TestApp::start().await);
    app.accept(&yesterday(3)).await;
    app.fold().await;
    assert_eq!(ask(&app, SETTLED).await, miss(3));
    assert_eq!(ask(&app, LIVE).await, miss(3));

    // While this is held, whoever reads the hours waits.
    let held = Held::on(&app.database, "endpoint_hourly_stats").await;
    let ask_beside = |path: &'static str| {
        let app = Arc::clone(&app);
        tokio::spawn(async move { ask(&app, path).await })
    };

    // Two seconds: the process asks again, but the answer is not older than clients were told it may be.
    app.clock.advance(TimeDelta::seconds(2));
    let renewed = ask_beside(LIVE);
    until("one asks Postgres", async || held.waiting().await == 1).await;
    for _ in 0..10 {
        assert_eq!(ask(&app, LIVE).await, hit(3));
    }
    // Fourteen hours: past its lifetime, give or take a tenth, and not yet much too old.
    app.clock.advance(TimeDelta::hours(14));
    let settled = ask_beside(SETTLED);
    until("two ask Postgres", async || held.waiting().await == 2).await;
    for _ in 0..10 {
        is_marked_stale(get(&app, SETTLED).await, TimeDelta::hours(14) + TimeDelta::seconds(2), 3).await;
    }
    held.release().await;
    assert_eq!(renewed.await.unwrap(), miss(3), "who makes it waits for it");
    assert_eq!(settled.await.unwrap(), miss(3));
    assert_eq!(ask(&app, SETTLED).await, hit(3));
}
