//! One endpoint: figures, series, raw requests.

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{id_of, records, refused};
use crate::harness::{Setup, TestApp, record};

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_tells_its_names_and_figures() {
    let app = TestApp::start().await;
    let mut all = records(2, "2026-11-21T10:00:00Z", "/items/{id}", 200, Some(2.0));
    all.extend(records(1, "2026-11-21T10:01:00Z", "/items/{id}", 302, None));
    all.extend(records(1, "2026-11-21T10:02:00Z", "/items/{id}", 503, Some(8.0)));
    all.extend(records(5, "2026-11-21T10:02:00Z", "/other", 503, Some(80.0)));
    app.accept(&all).await;
    let id = id_of(&app, "/items/{id}").await;
    for stage in ["in deltas", "folded", "in the view"] {
        let answer = app.get(&format!("/api/v1/endpoints/{id}?window=1h")).await;
        let expected = json!({
            "id": id, "service": "shop", "method": "GET", "route": "/items/{id}",
            "window": {"from": "2026-11-21T09:20:00Z", "to": "2026-11-21T10:26:00Z"},
            "data_through": "2026-11-21T10:20:30Z", "percentile_error": 0.044, "cache": "miss",
            "requests": 4, "requests_per_second": 0.001093, "errors": 1, "error_rate": 0.25, "client_errors": 0,
            "avg_ms": 4.0, "min_ms": 2.0, "max_ms": 8.0, "p50_ms": null, "p95_ms": null, "p99_ms": null,
            "total_time_ms": 12.0, "redirects": 1, "timed_requests": 3,
        });
        assert_eq!(answer, expected, "{stage}");
        match stage {
            "in deltas" => app.fold().await,
            _ => app.refresh().await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_saw_nothing_has_zero_figures_and_one_that_is_not_there_is_a_404() {
    let app = TestApp::start().await;
    app.accept(&records(1, "2026-11-20T10:00:00Z", "/quiet", 200, Some(2.0))).await;
    let id = id_of(&app, "/quiet").await;
    let answer = app.get(&format!("/api/v1/endpoints/{id}?window=1h")).await;
    assert_eq!((&answer["requests"], &answer["route"]), (&json!(0), &json!("/quiet")));
    assert_eq!(
        (&answer["error_rate"], &answer["avg_ms"], &answer["total_time_ms"]),
        (&Value::Null, &Value::Null, &json!(0.0))
    );
    let series = app.get(&format!("/api/v1/endpoints/{id}/series?window=1h&step=1m")).await;
    assert!(series["points"].as_array().unwrap().iter().all(|point| point["requests"] == 0), "{series}");
    let requests = app.get(&format!("/api/v1/endpoints/{id}/requests?window=1h")).await;
    assert_eq!((&requests["requests"], &requests["route"]), (&json!([]), &json!("/quiet")));

    for path in ["", "/series", "/requests"] {
        let unknown = format!("/api/v1/endpoints/{}{path}", id + 1_000);
        refused(&app, &unknown, StatusCode::NOT_FOUND, "endpoint-not-found").await;
        for id in ["0", "-1", "abc", "2147483648"] {
            let malformed = format!("/api/v1/endpoints/{id}{path}");
            refused(&app, &malformed, StatusCode::BAD_REQUEST, "invalid-parameter").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_has_a_point_a_step_zeros_for_gaps_and_the_sum_of_the_total() {
    let app = TestApp::start().await;
    let mut all = Vec::new();
    for (index, timestamp) in [
        "2026-11-19T23:59:59.999999Z",
        "2026-11-20T00:00:00Z",
        "2026-11-20T09:00:00Z",
        "2026-11-20T09:04:59.999Z",
        "2026-11-20T09:05:00Z",
        "2026-11-20T11:59:00Z",
        "2026-11-20T12:00:00Z",
        "2026-11-21T00:00:00Z",
    ]
    .iter()
    .enumerate()
    {
        all.extend(records(index + 1, timestamp, "/a", if index == 2 { 500 } else { 200 }, Some(1.0)));
    }
    // Beside it, so that a series of everything would show.
    all.extend(records(50, "2026-11-20T09:00:00Z", "/b", 200, Some(1.0)));
    app.accept(&all).await;
    let id = id_of(&app, "/a").await;
    for stage in ["in deltas", "folded", "in the view"] {
        for (step, from, to, points, expected) in [
            ("1m", "2026-11-20T09:00:00Z", "2026-11-20T12:00:00Z", 180, &[(0, 3), (4, 4), (5, 5), (179, 6)][..]),
            ("5m", "2026-11-20T09:00:00Z", "2026-11-20T12:05:00Z", 37, &[(0, 7), (1, 5), (35, 6), (36, 7)]),
            (
                "1h",
                "2026-11-19T23:00:00Z",
                "2026-11-21T01:00:00Z",
                26,
                &[(0, 1), (1, 2), (10, 12), (12, 6), (13, 7), (25, 8)],
            ),
            ("1d", "2026-11-18T00:00:00Z", "2026-11-21T00:00:00Z", 3, &[(1, 1), (2, 27)]),
        ] {
            let window = format!("from={from}&to={to}");
            let answer = app.get(&format!("/api/v1/endpoints/{id}/series?{window}&step={step}")).await;
            assert_eq!((&answer["step"], &answer["window"]["from"]), (&json!(step), &json!(from)), "{stage}");
            let found = answer["points"].as_array().unwrap();
            assert_eq!(found.len(), points, "{stage}, {step}");
            assert_eq!(found[0]["start"], from, "{stage}, {step}");
            for (index, point) in found.iter().enumerate() {
                let requests = expected.iter().find(|(at, _)| *at == index).map_or(0, |(_, requests)| *requests);
                assert_eq!(point["requests"], requests, "{stage}, {step}, point {index}");
            }
            let total = app.get(&format!("/api/v1/endpoints/{id}?{window}")).await;
            for figure in ["requests", "errors", "total_time_ms"] {
                let sum: f64 = found.iter().map(|point| point[figure].as_f64().unwrap()).sum();
                assert_eq!(Some(sum), total[figure].as_f64(), "{stage}, {step}, {figure}");
            }
        }
        match stage {
            "in deltas" => app.fold().await,
            _ => app.refresh().await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_ends_with_the_step_that_has_begun() {
    let app = TestApp::start().await;
    app.accept(&records(3, "2026-11-21T10:20:00Z", "/a", 200, Some(1.0))).await;
    let id = id_of(&app, "/a").await;
    for (step, last) in [("1m", "10:20"), ("5m", "10:20"), ("1h", "10:00"), ("1d", "00:00")] {
        let answer = app.get(&format!("/api/v1/endpoints/{id}/series?window=1h&step={step}")).await;
        let last_point = answer["points"].as_array().unwrap().last().unwrap();
        assert_eq!(last_point["start"], format!("2026-11-21T{last}:00Z"), "{step}");
        assert_eq!(last_point["requests"], 3, "{step}");
    }
    // A client whose clock is fast is shown where it said it was.
    app.accept(&records(1, "2026-11-21T10:24:00Z", "/a", 200, Some(1.0))).await;
    let answer = app.get(&format!("/api/v1/endpoints/{id}/series?window=1h&step=1m")).await;
    assert_eq!(answer["points"].as_array().unwrap().last().unwrap()["start"], "2026-11-21T10:24:00Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_finer_than_kept_and_too_many_steps_are_refused() {
    let app = TestApp::start().await;
    app.accept(&records(1, "2026-11-18T10:00:00Z", "/a", 200, Some(1.0))).await;
    let id = id_of(&app, "/a").await;
    let series = format!("/api/v1/endpoints/{id}/series");
    for step in ["1m", "5m"] {
        let path = format!("{series}?from=2026-11-18T09:00:00Z&to=2026-11-18T11:00:00Z&step={step}");
        let problem = refused(&app, &path, StatusCode::UNPROCESSABLE_ENTITY, "finer-than-kept").await;
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("2026-11-19T10:00:00Z"), "says from when on: {detail}");
    }
    // The first minute that is kept is answered.
    app.get(&format!("{series}?from=2026-11-19T10:00:00Z&to=2026-11-19T11:00:00Z&step=1m")).await;
    // A client that leaves the step to the service is never refused.
    for window in ["1m", "3h", "25h", "48h", "49h", "32d", "400d"] {
        app.get(&format!("{series}?window={window}")).await;
    }
    let answer = app.get(&format!("{series}?from=2026-11-18T09:00:00Z&to=2026-11-18T11:00:00Z")).await;
    assert_eq!((&answer["step"], answer["points"].as_array().unwrap().len()), (&json!("1h"), 2));
    for (window, step) in [("30d", "1m"), ("400d", "1h"), ("49h", "1m")] {
        let path = format!("{series}?window={window}&step={step}");
        let problem = refused(&app, &path, StatusCode::BAD_REQUEST, "invalid-parameter").await;
        assert!(problem["detail"].as_str().unwrap().starts_with("`step` "), "{problem}");
    }
    refused(&app, &format!("{series}?step=2m"), StatusCode::BAD_REQUEST, "invalid-parameter").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_requests_come_newest_slowest_or_failed_first() {
    let app = TestApp::start().await;
    let mut all = Vec::new();
    for (timestamp, status, ms) in [
        ("2026-11-21T10:00:00.000001Z", 200, json!(5.0)),
        ("2026-11-21T10:01:00Z", 500, json!(0.001)),
        ("2026-11-21T10:02:00Z", 404, json!(70.25)),
        ("2026-11-21T10:03:00Z", 503, Value::Null),
        ("2026-11-21T10:04:00Z", 200, json!(70.25)),
        // Outside the hour.
        ("2026-11-21T09:19:59.999999Z", 500, json!(999.0)),
    ] {
        let mut request = record(timestamp, "/a", 0.0);
        request["status"] = json!(status);
        request["response_time_ms"] = ms;
        all.push(request);
    }
    all[0]["trace_id"] = json!("4bf92f3577b34da6a3ce929d0e0e4736");
    all.push(record("2026-11-21T10:05:00Z", "/b", 9_999.0));
    app.accept(&all).await;
    let id = id_of(&app, "/a").await;
    for stage in ["fresh", "folded"] {
        for (query, expected) in [
            ("", &["10:04", "10:03", "10:02", "10:01", "10:00"][..]),
            ("&by=newest&limit=2", &["10:04", "10:03"]),
            // Equally slow: the newer first. Without a response time: not slow.
            ("&by=slowest", &["10:04", "10:02", "10:00", "10:01"]),
            ("&by=failed", &["10:03", "10:01"]),
        ] {
            let answer = app.get(&format!("/api/v1/endpoints/{id}/requests?window=1h{query}")).await;
            let found: Vec<&str> = answer["requests"]
                .as_array()
                .unwrap()
                .iter()
                .map(|request| &request["timestamp"].as_str().unwrap()["2026-11-21T".len()..][..5])
                .collect();
            assert_eq!(found, expected, "{stage}: {query}");
        }
        app.fold().await;
    }
    let answer = app.get(&format!("/api/v1/endpoints/{id}/requests?window=1h&by=slowest")).await;
    assert_eq!(
        answer["requests"][2],
        json!({
            "timestamp": "2026-11-21T10:00:00.000001Z", "status": 200, "response_time_ms": 5.0,
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        })
    );
    assert_eq!(answer["requests"][3]["response_time_ms"], 0.001);
    // Thirty days of raw requests are kept; the answer says from when on.
    assert_eq!(answer["raw_since"], "2026-10-22T00:00:00Z");
    let path = format!("/api/v1/endpoints/{id}/requests?by=fastest");
    refused(&app, &path, StatusCode::BAD_REQUEST, "invalid-parameter").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_everything_is_kept_there_is_no_instant_from_which_on_it_is() {
    let retention = endpoint_stats::jobs::Retention { raw: None, minutes: None, hours: None };
    let app = TestApp::with(Setup { retention, ..Setup::default() }).await;
    app.accept(&records(1, "2026-01-01T10:00:00Z", "/a", 200, Some(1.0))).await;
    let id = id_of(&app, "/a").await;
    let window = "from=2026-01-01T10:00:00Z&to=2026-01-01T10:02:00Z";
    let requests = app.get(&format!("/api/v1/endpoints/{id}/requests?{window}")).await;
    assert_eq!((&requests["raw_since"], requests["requests"].as_array().unwrap().len()), (&Value::Null, 1));
    let series = app.get(&format!("/api/v1/endpoints/{id}/series?{window}&step=1m")).await;
    assert_eq!((&series["points"][0]["requests"], &series["points"][1]["requests"]), (&json!(1), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_raw_requests_were_removed_by_hand_older_ones_take_their_place() {
    let app = TestApp::start().await;
    for minute in ["09:50", "09:51", "09:52", "10:03", "10:04", "10:05"] {
        app.accept(&records(1, &format!("2026-11-21T{minute}:00Z"), "/a", 503, Some(1.0))).await;
    }
    let id = id_of(&app, "/a").await;
    app.fold().await;
    app.database.execute("DELETE FROM requests WHERE timestamp >= '2026-11-21T10:00Z'").await;
    for by in ["newest", "failed", "slowest"] {
        let answer = app.get(&format!("/api/v1/endpoints/{id}/requests?window=1h&by={by}&limit=2")).await;
        let found: Vec<_> =
            answer["requests"].as_array().unwrap().iter().map(|request| &request["timestamp"]).collect();
        assert_eq!(found, ["2026-11-21T09:52:00Z", "2026-11-21T09:51:00Z"], "{by}");
        // Also where not a single one is left of those that were to be enough.
        let answer = app.get(&format!("/api/v1/endpoints/{id}/requests?window=1h&by={by}&limit=1")).await;
        assert_eq!(answer["requests"][0]["timestamp"], "2026-11-21T09:52:00Z", "{by}");
    }
}
