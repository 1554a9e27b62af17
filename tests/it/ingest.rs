//! The ways in for records, and what a client may rely on once it has its answer.
//!
//! | module | what |
//! |---|---|
//! | this one | forms and encodings of a body, what a record may leave out, errors by record, times and retention |
//! | `keys` | batches with an `Idempotency-Key` count once, whoever delivers them however often |
//! | `freshness` | what was acknowledged is in the next answer |
//! | `in_doubt` | a commit whose answer is lost on the way: told as unknown, and counted once when it is sent again |
//! | `outages` | a full queue, connections that are cut, a day that vanished, clients that go away |

mod freshness;
mod in_doubt;
mod keys;
mod outages;

use std::sync::Arc;

use endpoint_stats::ingest::IngestConfig;
use endpoint_stats::store::EndpointCaps;
use serde_json::{Value, json};

use crate::harness::compressed::{gzip, zstd};
use crate::harness::{NOW, Setup, TestApp, at, record};

/// Requests counted, raw rows kept.
async fn counted(app: &TestApp) -> (i64, i64) {
    let counted = "SELECT (SELECT COALESCE(sum(request_count), 0) FROM rollup_deltas)::bigint
                        + (SELECT COALESCE(sum(request_count), 0) FROM endpoint_hourly_stats)::bigint";
    (app.database.number(counted).await, app.database.number("SELECT count(*) FROM requests").await)
}

fn lines(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_an_object_an_array_or_lines_each_plain_or_compressed() {
    let app = TestApp::start().await;
    let records: Vec<Value> = (0..20).map(|n| record("2026-11-21T10:00:00Z", &format!("/items/{n}"), 12.5)).collect();
    let forms = [
        ("application/json", records[0].to_string(), 1),
        ("application/json", Value::from(records.clone()).to_string(), 20),
        ("application/x-ndjson", lines(&records), 20),
    ];
    let mut sent = 0;
    for (content_type, body, count) in forms {
        let encoded = [
            (None, body.clone().into_bytes()),
            (Some("gzip"), gzip(&body)),
            (Some("zstd"), zstd(&body)),
            // A body may come in several members or frames.
            (Some("gzip"), [gzip(&body[..9]), gzip(&body[9..])].concat()),
            (Some("zstd"), [zstd(&body[..9]), zstd(&body[9..])].concat()),
        ];
        for (encoding, bytes) in encoded {
            let request = app.post(content_type, bytes);
            let request =
                if let Some(encoding) = encoding { request.header("Content-Encoding", encoding) } else { request };
            let response = request.send().await.unwrap();
            assert_eq!(
                (response.status().as_u16(), &response.headers()["content-type"]),
                (200, &"application/json".parse().unwrap())
            );
            assert_eq!(response.headers()["cache-control"], "no-store");
            assert_eq!(response.headers().get("idempotency-replayed"), None);
            let answer: Value = response.json().await.unwrap();
            assert_eq!(answer, json!({"accepted": count, "rejected": 0, "errors": []}), "{content_type} {encoding:?}");
            sent += count;
        }
    }
    assert_eq!(counted(&app).await, (sent, sent));
    assert_eq!(app.get("/api/v1/overview").await["total"]["requests"], sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_may_give_a_path_an_epoch_and_no_service() {
    let app = TestApp::start().await;
    app.accept(&[json!({
        "timestamp": 1_795_255_199_123.25, "method": "get", "path": "/users/17/orders/0198f3a2-1111-7000-8000-00000000000a?page=2#top",
        "status": 204,
    })])
    .await;
    let ranking = app.get("/api/v1/endpoints/top").await;
    let row = &ranking["rows"][0];
    assert_eq!(
        (&row["service"], &row["method"], &row["route"], &row["avg_ms"]),
        (&"unknown_service".into(), &"GET".into(), &"/users/{id}/orders/{uuid}".into(), &Value::Null)
    );
    let raw = app.get(&format!("/api/v1/endpoints/{}/requests", row["id"])).await;
    let request = &raw["requests"][0];
    assert_eq!(at(request["timestamp"].as_str().unwrap()), at("2026-11-21T09:59:59.123250Z"));
    assert_eq!(
        (&request["status"], &request["response_time_ms"], &request["trace_id"]),
        (&204.into(), &Value::Null, &Value::Null)
    );

    // A route is taken as it stands, also beside a path.
    let mut both = record("2026-11-21T10:00:00Z", "/items/7", 1.0);
    both["path"] = "/elsewhere".into();
    app.accept(&[both]).await;
    assert_eq!(app.get("/api/v1/endpoints/top?route=/items/7").await["total"]["requests"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_record_is_told_by_its_index_and_the_others_are_stored() {
    let app = TestApp::start().await;
    let good = || record("2026-11-21T10:00:00Z", "/items", 5.0);
    let (mut status, mut method) = (good(), good());
    status["status"] = 99.into();
    method["method"] = "NOT A METHOD".into();
    let expected = json!([
        {"index": 1, "field": "status", "code": "out-of-range", "reason": "must be from 100 to 599"},
        {"index": 2, "field": null, "code": "not-an-object", "reason": "must be a JSON object"},
        {"index": 4, "field": "method", "code": "invalid-method", "reason": "must be an HTTP method: letters, digits and !#$%&'*+-.^_`|~ only"},
    ]);
    let records = [good(), status, 7.into(), good(), method];
    let array = app.post("application/json", Value::from(records.to_vec()).to_string());
    for request in [array, app.post("application/x-ndjson", lines(&records))] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let answer: Value = response.json().await.unwrap();
        assert_eq!((&answer["accepted"], &answer["rejected"], &answer["errors"]), (&2.into(), &3.into(), &expected));
    }

    let broken = format!("{}\n{{oops\n\n{}\n", good(), good());
    let response = app.post_ndjson(broken).await;
    assert_eq!(response.status(), 200);
    let answer: Value = response.json().await.unwrap();
    let error = &answer["errors"][0];
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&2.into(), &1.into()));
    assert_eq!((&error["index"], &error["field"], &error["code"]), (&1.into(), &Value::Null, &"invalid-json".into()));
    assert_eq!(counted(&app).await, (6, 6), "accepted is what is stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_first_hundred_errors_are_listed_and_none_accepted_is_422() {
    let app = TestApp::start().await;
    let mut bad = record("2026-11-21T10:00:00Z", "/items", 5.0);
    bad["status"] = 1_000.into();
    let response = app.post_ndjson(lines(&vec![bad.clone(); 250])).await;
    assert_eq!(
        (response.status().as_u16(), response.headers()["content-type"].to_str().unwrap()),
        (422, "application/json")
    );
    let answer: Value = response.json().await.unwrap();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&0.into(), &250.into()));
    let indexes: Vec<u64> =
        answer["errors"].as_array().unwrap().iter().map(|error| error["index"].as_u64().unwrap()).collect();
    assert_eq!(indexes, (0..100).collect::<Vec<_>>());

    let mut records = vec![bad; 250];
    records.push(record("2026-11-21T10:00:00Z", "/items", 5.0));
    let response = app.post_ndjson(lines(&records)).await;
    assert_eq!(response.status(), 200, "one good one is enough");
    assert_eq!(counted(&app).await, (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_taken_from_400_days_ago_to_5_minutes_ahead() {
    let app = TestApp::start().await;
    // The clock of the test stands at 10:20:30 on 21 November.
    for (timestamp, refused) in [
        ("2026-11-21T10:25:30Z", None),
        ("2026-11-21T10:25:30.001Z", Some("timestamp-in-future")),
        ("2025-10-17T10:20:30Z", None),
        ("2025-10-17T10:20:29.999Z", Some("timestamp-too-old")),
    ] {
        let response = app.post_ndjson(record(timestamp, "/edge", 1.0).to_string()).await;
        let status = response.status().as_u16();
        let answer: Value = response.json().await.unwrap();
        assert_eq!(status, if refused.is_some() { 422 } else { 200 }, "{timestamp}: {answer}");
        assert_eq!(answer["errors"][0]["code"].as_str(), refused, "{timestamp}");
    }
    // The window of an ingest moves with the clock.
    app.clock.set(at("2026-11-21T10:20:30.001Z"));
    app.accept(&[record("2026-11-21T10:25:30.001Z", "/edge", 1.0)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_older_than_raw_requests_are_kept_is_counted_without_a_row() {
    let app = TestApp::start().await;
    // Raw requests are kept for 30 days, from a midnight on.
    app.accept(&[record("2026-10-21T23:59:59.999Z", "/old", 7.0), record("2026-10-22T00:00:00Z", "/old", 9.0)]).await;
    assert_eq!(counted(&app).await, (2, 1));
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'requests'::regclass AND inhrelid::regclass::text = 'requests_20261021'";
    assert_eq!(app.database.number(partitions).await, 0, "no day is made for rows that are not kept");
    let ranking = app.get("/api/v1/endpoints/top?from=2026-10-21&to=2026-10-23").await;
    assert_eq!((&ranking["rows"][0]["requests"], &ranking["rows"][0]["total_time_ms"]), (&2.into(), &16.0.into()));
    // A batch of nothing but old records is stored as well.
    app.accept(&[record("2025-12-24T12:34:56Z", "/older", 3.0)]).await;
    assert_eq!(counted(&app).await, (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_replica_made_is_not_one_too_many_here() {
    let setup = || Setup {
        ingest: IngestConfig {
            caps: EndpointCaps { per_service: 2, services: 2, total: 50_000 },
            ..Setup::default().ingest
        },
        ..Setup::default()
    };
    let first = TestApp::with(setup()).await;
    let second = TestApp::on(Arc::clone(&first.database), setup()).await;
    first.accept(&[record(NOW, "/a", 1.0), record(NOW, "/b", 1.0)]).await;
    let other = |route: &str| {
        let mut other = record(NOW, route, 1.0);
        other["service"] = "other shop".into();
        other
    };
    first.accept(&[other("/a")]).await;

    // The second replica learns that both are full from endpoints that find no room, before it has met those that did.
    let mut third = record(NOW, "/c", 1.0);
    second.accept(&[third.clone()]).await;
    third["service"] = "third shop".into();
    second.accept(&[third]).await;
    second.accept(&[record(NOW, "/a", 1.0), other("/a"), other("/b")]).await;

    let ranking = second.get("/api/v1/endpoints/top?limit=100").await;
    let requests = |service: &str, route: &str| {
        let rows = ranking["rows"].as_array().unwrap();
        rows.iter().find(|row| row["service"] == service && row["route"] == route).map(|row| row["requests"].clone())
    };
    assert_eq!(requests("shop", "/a"), Some(2.into()), "{ranking}");
    assert_eq!(requests("shop", "{other}"), Some(1.into()), "{ranking}");
    assert_eq!(requests("other shop", "/a"), Some(2.into()), "{ranking}");
    assert_eq!(requests("other shop", "/b"), Some(1.into()), "{ranking}");
    assert_eq!(requests("{other}", "{other}"), Some(1.into()), "{ranking}");
    second.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_services_together_have_only_so_many_endpoints() {
    let caps = EndpointCaps { per_service: 50, services: 50, total: 4 };
    let app =
        TestApp::with(Setup { ingest: IngestConfig { caps, ..Setup::default().ingest }, ..Setup::default() }).await;
    for service in ["a", "b", "c"] {
        let records: Vec<Value> = (0..3)
            .map(|route| {
                let mut record = record(NOW, &format!("/{route}"), 1.0);
                record["service"] = service.into();
                record
            })
            .collect();
        app.accept(&records).await;
    }
    assert_eq!(app.database.number("SELECT count(*) FROM endpoints WHERE route <> '{other}'").await, 4);
    let ranking = app.get("/api/v1/endpoints/top?route={other}").await;
    assert_eq!(ranking["total"]["requests"], 5, "{ranking}");
    app.stop().await;
}
