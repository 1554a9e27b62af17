//! Totals by service, and days.

use reqwest::Method;
use serde_json::{Value, json};

use super::{column, id_of, records};
use crate::harness::{TestApp, record};

#[tokio::test(flavor = "multi_thread")]
async fn an_overview_adds_up_its_services_to_its_total() {
    let app = TestApp::start().await;
    let mut all = Vec::new();
    for (service, route, count, status, ms) in [
        ("shop", "/a", 30, 200, 2.0),
        ("shop", "/b", 10, 500, 8.0),
        ("pay", "/a", 25, 404, 16.0),
        ("mail", "/a", 15, 200, 64.0),
        ("auth", "/a", 15, 302, 1.0),
    ] {
        let mut record = record("2026-11-21T10:05:00Z", route, ms);
        record["service"] = json!(service);
        record["status"] = json!(status);
        all.extend(vec![record; count]);
    }
    app.accept(&all).await;
    for stage in ["in deltas", "folded"] {
        let answer = app.get("/api/v1/overview").await;
        let services = answer["services"].as_array().unwrap();
        let names: Vec<&str> = services.iter().map(|service| service["service"].as_str().unwrap()).collect();
        // Busiest first; the equally busy by name.
        assert_eq!(names, ["shop", "pay", "auth", "mail"], "{stage}");
        let total = &answer["total"];
        for figure in ["endpoints", "requests", "errors", "client_errors", "total_time_ms"] {
            let sum: f64 = services.iter().map(|service| service[figure].as_f64().unwrap()).sum();
            assert_eq!(Some(sum), total[figure].as_f64(), "{stage}: {figure}");
        }
        assert_eq!((&total["endpoints"], &total["requests"]), (&json!(5), &json!(95)), "{stage}");
        assert_eq!((&services[0]["endpoints"], &services[0]["share"]), (&json!(2), &json!(0.421053)), "{stage}");
        assert_eq!((&services[0]["error_rate"], &services[0]["avg_ms"]), (&json!(0.25), &json!(3.5)), "{stage}");
        // Of the 40 requests of the shop the 38th is a slow one: a percentile of the sum, not a sum of percentiles.
        for (percentile, exact) in [("p50_ms", 2.0), ("p95_ms", 8.0)] {
            let found = services[0][percentile].as_f64().unwrap();
            assert!((found - exact).abs() <= exact * 0.044, "{stage}: {percentile} {found}, exactly {exact}");
        }
        app.fold().await;
    }
    let one = app.get("/api/v1/overview?service=pay").await;
    assert_eq!((&one["total"]["requests"], &one["services"][0]["share"]), (&json!(25), &json!(1.0)));
    let nothing = app.get("/api/v1/overview?service=nobody").await;
    assert_eq!((&nothing["total"]["requests"], &nothing["services"]), (&json!(0), &json!([])));
    assert_eq!(nothing["total"]["error_rate"], Value::Null);
}

/// Day, route, requests of each row.
fn days(answer: &Value) -> Vec<(&str, &str, i64)> {
    answer["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["day"].as_str().unwrap(), row["route"].as_str().unwrap(), row["requests"].as_i64().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn days_come_newest_first_and_the_busiest_endpoint_of_a_day_first() {
    let app = TestApp::start().await;
    let mut all = records(2, "2026-11-19T00:00:00Z", "/a", 200, Some(2.0));
    all.extend(records(3, "2026-11-19T23:59:59.999999Z", "/b", 500, Some(4.0)));
    all.extend(records(1, "2026-11-20T12:00:00Z", "/b", 200, None));
    all.extend(records(4, "2026-11-21T10:00:00Z", "/a", 200, Some(2.0)));
    all.extend(records(4, "2026-11-21T10:00:00Z", "/c", 200, Some(2.0)));
    app.accept(&all).await;
    let id = id_of(&app, "/b").await;
    let mut tied = [(id_of(&app, "/a").await, "/a"), (id_of(&app, "/c").await, "/c")];
    tied.sort_unstable();
    for stage in ["in deltas", "folded", "in the view"] {
        let answer = app.get("/api/v1/daily?window=30d").await;
        let expected = [
            ("2026-11-21", tied[0].1, 4),
            ("2026-11-21", tied[1].1, 4),
            ("2026-11-20", "/b", 1),
            ("2026-11-19", "/b", 3),
            ("2026-11-19", "/a", 2),
        ];
        assert_eq!(days(&answer), expected, "{stage}");
        assert_eq!(answer["window"], json!({"from": "2026-10-22T00:00:00Z", "to": "2026-11-22T00:00:00Z"}), "{stage}");
        assert_eq!(column(&answer, "error_rate")[2..4], [&json!(0.0), &json!(1.0)], "{stage}");
        // Of a day that is not over: by what has passed of it, ten hours and 21 minutes.
        assert_eq!(column(&answer, "requests_per_second")[0], &json!(0.000107), "{stage}");
        assert_eq!(column(&answer, "requests_per_second")[3], &json!(0.000035), "{stage}");

        // Widened to whole days.
        let window = "from=2026-11-19T18:00:00Z&to=2026-11-20T06:00:00Z";
        assert_eq!(days(&app.get(&format!("/api/v1/daily?{window}")).await), expected[2..], "{stage}");
        assert_eq!(days(&app.get("/api/v1/daily?limit=3").await), expected[..3], "{stage}");
        let one = app.get(&format!("/api/v1/daily?endpoint_id={id}")).await;
        assert_eq!(days(&one), [expected[2], expected[3]], "{stage}");
        assert_eq!(days(&app.get("/api/v1/daily?route=B").await), days(&one), "{stage}");
        match stage {
            "in deltas" => app.fold().await,
            _ => app.refresh().await,
        }
    }
    let csv = app.request(Method::GET, "/api/v1/daily?from=2026-11-20&to=2026-11-21&format=csv").send().await.unwrap();
    let text = csv.text().await.unwrap();
    assert!(text.starts_with("day,id,service,method,route,requests,"), "{text}");
    assert!(text.ends_with(&format!("\r\n2026-11-20,{id},shop,GET,/b,1,0.000012,0,0,0,,,,,,,0\r\n")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_is_read_from_the_view_where_it_speaks_and_from_the_hours_where_it_does_not() {
    let app = TestApp::start().await;
    let mut all = records(2, "2026-11-19T10:00:00Z", "/a", 200, Some(2.0));
    all.extend(records(3, "2026-11-20T10:00:00Z", "/a", 200, Some(2.0)));
    all.extend(records(4, "2026-11-21T10:00:00Z", "/a", 200, Some(2.0)));
    app.accept(&all).await;
    app.fold().await;
    app.refresh().await;
    // Late, folded after the refresh: the 19th is stale now, its hours say 12.
    app.accept(&records(10, "2026-11-19T11:00:00Z", "/a", 200, Some(2.0))).await;
    app.fold().await;
    // Not folded: added to whatever speaks.
    app.accept(&records(100, "2026-11-20T11:00:00Z", "/a", 200, Some(2.0))).await;
    app.accept(&records(100, "2026-11-21T10:10:00Z", "/a", 200, Some(2.0))).await;
    let top = "/api/v1/endpoints/top?from=2026-11-19&to=2026-11-22";
    let daily = "/api/v1/daily?from=2026-11-19&to=2026-11-22";
    let honest = [("2026-11-21", "/a", 104), ("2026-11-20", "/a", 103), ("2026-11-19", "/a", 12)];
    assert_eq!(days(&app.get(daily).await), honest);
    assert_eq!(app.get(top).await["total"]["requests"], 219);
    // Hours that say something else show where hours are read: on the stale day and today, and not on the 20th.
    app.database.execute("UPDATE endpoint_hourly_stats SET request_count = request_count + 1000").await;
    let shifted = [("2026-11-21", "/a", 1_104), ("2026-11-20", "/a", 103), ("2026-11-19", "/a", 2_012)];
    assert_eq!(days(&app.get(daily).await), shifted);
    assert_eq!(app.get(top).await["total"]["requests"], 3_219);
}
