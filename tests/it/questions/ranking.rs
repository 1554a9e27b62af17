//! `/endpoints/top`.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{column, records, refused, routes};
use crate::harness::{TestApp, at, record};

const TOP: &str = "/api/v1/endpoints/top";

/// Requests and the milliseconds that each of them took.
type Times = &'static [(usize, f64)];

/// Eight endpoints that every order ranks differently: route, response times as (requests, milliseconds), how many of
/// the requests were answered 500, how many 404.
const SHOP: [(&str, Times, usize, usize); 8] = [
    ("/busy", &[(400, 1.0)], 6, 8),
    ("/broken", &[(120, 11.0)], 60, 2),
    ("/flaky", &[(300, 4.0)], 90, 30),
    ("/refused", &[(150, 21.0)], 1, 70),
    ("/steady", &[(110, 50.0)], 0, 0),
    ("/tail", &[(185, 2.0), (20, 120.0)], 2, 40),
    ("/spiky", &[(196, 3.0), (4, 300.0)], 10, 1),
    ("/once", &[(139, 15.0), (1, 2_000.0)], 3, 20),
];

/// The order of [`SHOP`] by each column.
const ORDERS: [(&str, [&str; 8]); 10] = [
    ("requests", ["/busy", "/flaky", "/tail", "/spiky", "/refused", "/once", "/broken", "/steady"]),
    ("errors", ["/flaky", "/broken", "/spiky", "/busy", "/once", "/tail", "/refused", "/steady"]),
    ("error_rate", ["/broken", "/flaky", "/spiky", "/once", "/busy", "/tail", "/refused", "/steady"]),
    ("client_errors", ["/refused", "/tail", "/flaky", "/once", "/busy", "/broken", "/spiky", "/steady"]),
    ("avg", ["/steady", "/once", "/refused", "/tail", "/broken", "/spiky", "/flaky", "/busy"]),
    ("p50", ["/steady", "/refused", "/once", "/broken", "/flaky", "/spiky", "/tail", "/busy"]),
    ("p95", ["/tail", "/steady", "/refused", "/once", "/broken", "/flaky", "/spiky", "/busy"]),
    ("p99", ["/spiky", "/tail", "/steady", "/refused", "/once", "/broken", "/flaky", "/busy"]),
    ("max", ["/once", "/spiky", "/tail", "/steady", "/refused", "/broken", "/flaky", "/busy"]),
    ("total_time", ["/steady", "/once", "/refused", "/tail", "/spiky", "/broken", "/flaky", "/busy"]),
];

fn shop() -> Vec<Value> {
    let mut all = Vec::new();
    for (route, times, errors, client_errors) in SHOP {
        let times = times.iter().flat_map(|&(count, ms)| std::iter::repeat_n(ms, count));
        all.extend(times.enumerate().map(|(index, ms)| {
            let mut record = record("2026-11-21T10:05:00Z", route, ms);
            if index < errors {
                record["status"] = json!(500);
            } else if index < errors + client_errors {
                record["status"] = json!(404);
            }
            record
        }));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_ranks_by_its_own_column_the_largest_first() {
    let app = TestApp::start().await;
    app.accept(&shop()).await;
    for (by, expected) in ORDERS {
        let answer = app.get(&format!("{TOP}?by={by}&window=1h")).await;
        assert_eq!(routes(&answer), expected, "by={by}");
        assert_eq!(answer["by"], by);
        assert_eq!(column(&answer, "rank"), [1, 2, 3, 4, 5, 6, 7, 8]);
        let values: Vec<f64> = column(&answer, figure_of(by)).iter().map(|value| value.as_f64().unwrap()).collect();
        assert!(values.is_sorted_by(|left, right| left > right), "by={by}: {values:?}");
    }
    // Two orders alike would not tell which column was looked at.
    for (index, (by, order)) in ORDERS.iter().enumerate() {
        assert!(ORDERS[..index].iter().all(|(_, other)| other != order), "{by} orders like another column");
    }
    assert_eq!(routes(&app.get(TOP).await), ORDERS[0].1, "requests unless asked otherwise");
}

/// The figure that an order ranks by.
fn figure_of(by: &str) -> &str {
    match by {
        "avg" => "avg_ms",
        "p50" => "p50_ms",
        "p95" => "p95_ms",
        "p99" => "p99_ms",
        "max" => "max_ms",
        "total_time" => "total_time_ms",
        other => other,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_picks_by_service_method_and_any_part_of_the_route_in_any_case() {
    let app = TestApp::start().await;
    let endpoints = [
        ("shop", "GET", "/Items/{id}"),
        ("shop", "POST", "/items"),
        ("shop", "GET", "/carts/50%_off"),
        ("pay", "GET", "/ITEMS"),
        ("pay", "PUT", "/straße/Äpfel"),
    ];
    let mut all = Vec::new();
    for (requests, (service, method, route)) in (1..).zip(endpoints) {
        let mut record = record("2026-11-21T10:05:00Z", route, 1.0);
        record["service"] = json!(service);
        record["method"] = json!(method);
        // The last is the busiest, so that the order of the answers is known.
        all.extend(vec![record; requests]);
    }
    app.accept(&all).await;
    for (filter, expected) in [
        ("service=pay", &["/straße/Äpfel", "/ITEMS"][..]),
        ("service=Pay", &[]),
        ("method=get", &["/ITEMS", "/carts/50%_off", "/Items/{id}"]),
        ("method=DELETE", &[]),
        ("route=iTEMs", &["/ITEMS", "/items", "/Items/{id}"]),
        // Beyond ASCII it is the database's locale that knows which letters are the same.
        ("route=%C3%9Fe/%C3%84PF", &["/straße/Äpfel"]),
        // What LIKE would take for wildcards are characters here.
        ("route=%25_", &["/carts/50%_off"]),
        ("route=_t", &[]),
        ("route=", &["/straße/Äpfel", "/ITEMS", "/carts/50%_off", "/items", "/Items/{id}"]),
        ("min_requests=4", &["/straße/Äpfel", "/ITEMS"]),
        ("min_requests=6", &[]),
        ("min_requests=2&service=shop&method=GET&route=%2F", &["/carts/50%_off"]),
    ] {
        let answer = app.get(&format!("{TOP}?{filter}")).await;
        assert_eq!(routes(&answer), expected, "{filter}");
        // The total is of what matches, not of everything.
        assert_eq!(answer["total"]["endpoints"], expected.len(), "{filter}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_cuts_rows_and_never_the_total() {
    let app = TestApp::start().await;
    app.accept(&shop()).await;
    let answer = app.get(&format!("{TOP}?limit=2&window=1h")).await;
    assert_eq!(routes(&answer), ["/busy", "/flaky"]);
    let total = &answer["total"];
    assert_eq!((&total["endpoints"], &total["requests"]), (&json!(8), &json!(1_625)), "{total}");
    assert_eq!((&total["errors"], &total["client_errors"]), (&json!(172), &json!(171)));
    assert_eq!((&total["min_ms"], &total["max_ms"]), (&json!(1.0), &json!(2_000.0)));
    assert_eq!(total["total_time_ms"], 20_213.0);
    // 61 minutes of the last hour have begun: 09:20 to 10:21.
    assert_eq!(total["requests_per_second"], json!(0.443989));
}

#[tokio::test(flavor = "multi_thread")]
async fn ties_break_by_the_number_of_the_endpoint_so_that_pages_are_stable() {
    let app = TestApp::start().await;
    // Out of order by name, and one batch each so that numbers are given in this order.
    for route in ["/m", "/z", "/a", "/q"] {
        app.accept(&records(3, "2026-11-21T10:05:00Z", route, 200, Some(5.0))).await;
    }
    for by in ORDERS.map(|(by, _)| by) {
        let answer = app.get(&format!("{TOP}?by={by}")).await;
        assert_eq!(routes(&answer), ["/m", "/z", "/a", "/q"], "by={by}");
        assert!(column(&answer, "id").iter().map(|id| id.as_i64().unwrap()).is_sorted_by(|left, right| left < right));
        assert_eq!(routes(&app.get(&format!("{TOP}?by={by}&limit=2")).await), ["/m", "/z"], "by={by}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_is_of_the_column_ranked_or_else_of_all_requests() {
    let app = TestApp::start().await;
    let mut all = records(6, "2026-11-21T10:05:00Z", "/a", 200, Some(1.0));
    all.extend(records(2, "2026-11-21T10:05:00Z", "/b", 500, Some(30.0)));
    all.extend(records(2, "2026-11-21T10:05:00Z", "/c", 404, Some(2.0)));
    app.accept(&all).await;
    for (by, expected) in [
        ("requests", [("/a", 0.6), ("/b", 0.2), ("/c", 0.2)]),
        ("errors", [("/b", 1.0), ("/a", 0.0), ("/c", 0.0)]),
        ("client_errors", [("/c", 1.0), ("/a", 0.0), ("/b", 0.0)]),
        ("total_time", [("/b", 0.857143), ("/a", 0.085714), ("/c", 0.057143)]),
        // A mean does not add up, so its share is that of the requests.
        ("avg", [("/b", 0.2), ("/c", 0.2), ("/a", 0.6)]),
    ] {
        let answer = app.get(&format!("{TOP}?by={by}")).await;
        let found: Vec<(&str, f64)> = routes(&answer)
            .into_iter()
            .zip(column(&answer, "share").iter().map(|share| share.as_f64().unwrap()))
            .collect();
        assert_eq!(found, expected, "by={by}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_percentile_of_too_few_is_null_and_ranks_behind_every_other() {
    let app = TestApp::start().await;
    for (route, count) in [("/4", 4), ("/5", 5), ("/19", 19), ("/20", 20), ("/99", 99), ("/100", 100)] {
        // The fewer, the slower: a guess would put them first.
        app.accept(&records(count, "2026-11-21T10:05:00Z", route, 200, Some(1_000.0 / count as f64))).await;
    }
    // Requests without response time are no sample of it.
    app.accept(&records(200, "2026-11-21T10:05:00Z", "/untimed", 200, None)).await;
    for (by, expected) in
        [("p50", &["/5", "/19", "/20", "/99", "/100"][..]), ("p95", &["/20", "/99", "/100"]), ("p99", &["/100"])]
    {
        let answer = app.get(&format!("{TOP}?by={by}")).await;
        assert_eq!(&routes(&answer)[..expected.len()], expected, "by={by}");
        for row in answer["rows"].as_array().unwrap() {
            let known = expected.contains(&row["route"].as_str().unwrap());
            assert_eq!(row[figure_of(by)].is_f64(), known, "by={by}: {row}");
            assert!(known || row[figure_of(by)].is_null(), "by={by}: {row}");
        }
    }
    let answer = app.get(&format!("{TOP}?route=untimed")).await;
    let row = &answer["rows"][0];
    for figure in ["avg_ms", "min_ms", "max_ms", "p50_ms", "p95_ms", "p99_ms"] {
        assert!(row[figure].is_null(), "{figure}: {row}");
    }
    assert_eq!((&row["error_rate"], &row["total_time_ms"]), (&json!(0.0), &json!(0.0)), "{row}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_tells_figures_and_rank_of_the_period_before_and_null_where_there_were_none() {
    let app = TestApp::start().await;
    let mut all = records(9, "2026-11-19T12:00:00Z", "/gone", 200, Some(1.0));
    all.extend(records(3, "2026-11-19T00:00:00Z", "/falling", 200, Some(2.0)));
    all.extend(records(2, "2026-11-19T23:59:59.999999Z", "/rising", 500, Some(4.0)));
    all.extend(records(5, "2026-11-20T00:00:00Z", "/rising", 200, Some(1.0)));
    all.extend(records(2, "2026-11-20T09:00:00Z", "/new", 200, Some(1.0)));
    all.extend(records(1, "2026-11-20T23:59:00Z", "/falling", 200, Some(1.0)));
    app.accept(&all).await;
    for stage in ["in deltas", "folded", "in the view"] {
        let answer = app.get(&format!("{TOP}?from=2026-11-20&to=2026-11-21&compare=previous")).await;
        assert_eq!(
            answer["previous_window"],
            json!({"from": "2026-11-19T00:00:00Z", "to": "2026-11-20T00:00:00Z"}),
            "{stage}"
        );
        assert_eq!(routes(&answer), ["/rising", "/new", "/falling"], "{stage}");
        let previous = column(&answer, "previous");
        // The rank then is among all endpoints of then, /gone included.
        assert_eq!((&previous[0]["rank"], &previous[0]["requests"]), (&json!(3), &json!(2)), "{stage}");
        assert_eq!((&previous[0]["error_rate"], &previous[0]["avg_ms"]), (&json!(1.0), &json!(4.0)), "{stage}");
        assert_eq!((&previous[2]["rank"], &previous[2]["requests"]), (&json!(2), &json!(3)), "{stage}");
        assert!(previous[1].is_null(), "{stage}: {answer}");
        assert_eq!(answer["total"]["requests"], 8, "{stage}: the total is of the window asked for alone");
        match stage {
            "in deltas" => app.fold().await,
            _ => app.refresh().await,
        }
    }
    // Of a period that is not over, with as much of the one before as has passed: like with like.
    let today = app.get(&format!("{TOP}?from=2026-11-21&compare=previous")).await;
    assert_eq!(
        today["previous_window"],
        json!({"from": "2026-11-20T13:39:00Z", "to": "2026-11-21T00:00:00Z"}),
        "10:21 of today has begun"
    );
    let plain = app.get(&format!("{TOP}?from=2026-11-20&to=2026-11-21")).await;
    assert!(plain.get("previous_window").is_none() && plain["rows"][0].get("previous").is_none(), "{plain}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ranking_as_csv_has_a_header_defused_formulas_and_quotes_where_needed() {
    let app = TestApp::start().await;
    let mut all = records(4, "2026-11-20T10:00:00Z", "=HYPERLINK(\"http://evil\",\"x\")", 500, Some(1.5));
    all.extend(records(2, "2026-11-20T10:00:00Z", "/a,b", 200, None));
    let mut other = record("2026-11-20T10:00:00Z", "@SUM(A1)", 250.0);
    other["service"] = json!("-1+2");
    all.push(other);
    app.accept(&all).await;
    let path = format!("{TOP}?from=2026-11-20&to=2026-11-21&format=csv");
    let response = app.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/csv; charset=utf-8");
    let text = response.text().await.unwrap();
    let ids: Vec<Value> =
        column(&app.get(&format!("{TOP}?from=2026-11-20&to=2026-11-21")).await, "id").into_iter().cloned().collect();
    let expected = format!(
        "rank,id,service,method,route,requests,requests_per_second,errors,error_rate,client_errors,avg_ms,min_ms,max_ms,\
         p50_ms,p95_ms,p99_ms,total_time_ms,share\r\n\
         1,{},shop,GET,\"'=HYPERLINK(\"\"http://evil\"\",\"\"x\"\")\",4,0.000046,4,1,0,1.5,1.5,1.5,,,,6,0.571429\r\n\
         2,{},shop,GET,\"/a,b\",2,0.000023,0,0,0,,,,,,,0,0.285714\r\n\
         3,{},'-1+2,GET,'@SUM(A1),1,0.000012,0,0,0,250,250,250,,,,250,0.142857\r\n",
        ids[0], ids[1], ids[2],
    );
    assert_eq!(text, expected);

    // With a comparison, a column for each of its figures; empty where there was nothing before.
    let compared = app.request(Method::GET, &format!("{path}&compare=previous")).send().await.unwrap();
    let compared = compared.text().await.unwrap();
    let lines: Vec<&str> = compared.split("\r\n").collect();
    assert!(lines[0].contains(",share,previous_rank,previous_requests,"), "{}", lines[0]);
    assert!(lines[0].ends_with(",previous_total_time_ms"), "{}", lines[0]);
    assert!(lines[3].ends_with(&format!(",0.142857{}", ",".repeat(13))), "{}", lines[3]);

    // Nothing found is a header alone, not an empty file.
    let nothing = app.request(Method::GET, &format!("{path}&service=nobody")).send().await.unwrap();
    assert_eq!(nothing.text().await.unwrap().lines().count(), 1);
    refused(&app, &format!("{TOP}?format=xml"), StatusCode::BAD_REQUEST, "invalid-parameter").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_may_be_written_as_days_instants_or_epoch_milliseconds() {
    let app = TestApp::start().await;
    app.accept(&[
        record("2026-11-19T23:59:59.999999Z", "/before", 1.0),
        record("2026-11-20T00:00:00Z", "/first", 1.0),
        record("2026-11-20T23:59:59.999999Z", "/last", 1.0),
        record("2026-11-21T00:00:00Z", "/after", 1.0),
    ])
    .await;
    let ms = |text: &str| at(text).timestamp_millis();
    let (from, to) = (ms("2026-11-20T00:00:00Z"), ms("2026-11-21T00:00:00Z"));
    for window in [
        "from=2026-11-20&to=2026-11-21",
        "from=2026-11-20T00:00:00Z&to=2026-11-21T00:00:00Z",
        "from=2026-11-20T01:00:00%2B01:00&to=2026-11-20T19:00:00-05:00",
        // Widened to whole minutes.
        "from=2026-11-20T00:00:59.9Z&to=2026-11-20T23:59:00.001Z",
        &format!("from={from}&to={to}"),
    ] {
        let answer = app.get(&format!("{TOP}?{window}")).await;
        let mut found = routes(&answer);
        found.sort_unstable();
        assert_eq!(found, ["/first", "/last"], "{window}");
        assert_eq!(answer["window"], json!({"from": "2026-11-20T00:00:00Z", "to": "2026-11-21T00:00:00Z"}), "{window}");
        assert_eq!(answer["data_through"], "2026-11-21T10:20:30Z");
    }
    // Up to now, and five minutes further for clients with fast clocks.
    for window in ["window=11h", "from=2026-11-20T23:20:00Z"] {
        let answer = app.get(&format!("{TOP}?{window}")).await;
        let mut found = routes(&answer);
        found.sort_unstable();
        assert_eq!(found, ["/after", "/last"], "{window}");
        assert_eq!(answer["window"], json!({"from": "2026-11-20T23:20:00Z", "to": "2026-11-21T10:26:00Z"}), "{window}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_length_up_to_400_days_is_answered() {
    let app = TestApp::start().await;
    app.accept(&[record("2026-11-21T10:05:00Z", "/a", 1.0)]).await;
    for window in ["1m", "15m", "16m", "1h", "24h", "30d", "399d", "400d"] {
        let answer = app.get(&format!("{TOP}?window={window}")).await;
        assert_eq!(routes(&answer).len(), usize::from(window != "1m"), "{window}");
        app.get(&format!("/api/v1/overview?window={window}")).await;
        app.get(&format!("/api/v1/daily?window={window}")).await;
    }
    // A comparison with a period before the first record is empty, not an error.
    app.get(&format!("{TOP}?window=400d&compare=previous")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_that_is_wrong_unknown_or_given_twice_is_named() {
    let app = TestApp::start().await;
    for (query, name) in [
        ("by=speed", "by"),
        ("by=P95", "by"),
        ("window=1w", "window"),
        ("window=401d", "window"),
        ("window=1h&from=2026-11-20", "window"),
        ("to=2026-11-20", "from"),
        ("from=2026-11-20T10:00:00&to=2026-11-21", "from"),
        ("from=2026-11-20&to=yesterday", "to"),
        ("from=2026-11-21&to=2026-11-20", "to"),
        ("from=2026-11-21&to=2026-11-21", "to"),
        ("from=2020-01-01&to=2026-11-21", "to"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("min_requests=-1", "min_requests"),
        ("service=", "service"),
        ("method=GE%20T", "method"),
        ("compare=next", "compare"),
        ("limit=1&limit=2", "limit"),
        ("lmit=1", "lmit"),
        ("route=%00", "route"),
        ("route=%FF", "route"),
    ] {
        let problem = refused(&app, &format!("{TOP}?{query}"), StatusCode::BAD_REQUEST, "invalid-parameter").await;
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with(&format!("`{name}` ")), "{query}: {detail}");
    }
}
