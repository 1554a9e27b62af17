//! Records that are JSON, and wrong in one field.

use endpoint_stats::store::EndpointCaps;
use serde_json::{Value, json};

use super::{GOOD, JSON, NDJSON, Trial, with};
use crate::harness::{Setup, TestApp};

#[tokio::test(flavor = "multi_thread")]
async fn b7_a_number_that_is_none_is_not_json_and_one_out_of_range_is_told_by_field() {
    let trial = Trial::start().await;
    for number in ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "0x10", "012", "+1", ".5", "1.", "1e"] {
        for part in ["200", "12.7"] {
            trial.refuses(number, trial.post(JSON, with(part, number)), 400, "invalid-json").await;
        }
    }
    for status in ["0", "99", "600", "999", "-200", "9223372036854775807", "-9223372036854775808"] {
        trial.rejects(status, with("200", status), "status", "out-of-range").await;
    }
    // Not whole numbers, as JSON or as i64 have them.
    for status in [
        "-0",
        "1.5",
        "200.0",
        "2e2",
        "9223372036854775808",
        "18446744073709551616",
        "\"200\"",
        "\"12\"",
        "true",
        "[]",
        "{}",
    ] {
        trial.rejects(status, with("200", status), "status", "wrong-type").await;
    }
    for ms in ["-1", "-0", "-0.0", "-1e-300", "86400001", "1e300", "9223372036854775808", "18446744073709551616"] {
        trial.rejects(ms, with("12.7", ms), "response_time_ms", "out-of-range").await;
    }
    for ms in ["\"12\"", "false", "[1]", "{\"ms\":1}"] {
        trial.rejects(ms, with("12.7", ms), "response_time_ms", "wrong-type").await;
    }
    for (part, field) in
        [("\"status\":200,", "status"), ("\"method\":\"GET\",", "method"), ("\"route\":\"/items/{id}\",", "route")]
    {
        trial.rejects(part, with(part, ""), field, "missing").await;
    }
    for (part, field) in [("\"shop\"", "service"), ("\"GET\"", "method"), ("\"/items/{id}\"", "route")] {
        for wrong in ["1", "1.5", "true", "[]", "{}"] {
            trial.rejects(wrong, with(part, wrong), field, "wrong-type").await;
        }
        trial.rejects("empty", with(part, "\"\""), field, "missing").await;
    }
    for good in ["0", "0.0001", "1e3", "86400000", "null"] {
        trial.takes(good, trial.post(JSON, with("12.7", good)), 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b8_a_timestamp_that_cannot_be_now_is_told_by_what_is_wrong_with_it() {
    let trial = Trial::start().await;
    for (timestamp, code) in [
        ("\"0000-01-01T00:00:00Z\"", "timestamp-too-old"),
        ("\"1969-12-31T23:59:59Z\"", "timestamp-too-old"),
        ("\"1995-07-01T00:00:01-04:00\"", "timestamp-too-old"), // the first line of NASA's log
        ("\"9999-12-31T23:59:59Z\"", "timestamp-in-future"),
        ("\"300000-01-01T00:00:00Z\"", "timestamp-invalid"),
        ("\"-2026-11-21T10:00:00Z\"", "timestamp-invalid"),
        ("\"2026-06-30T23:59:60Z\"", "timestamp-invalid"), // a leap second
        ("\"2026-11-21T10:00:61Z\"", "timestamp-invalid"),
        ("\"2026-02-29T10:00:00Z\"", "timestamp-invalid"),
        ("\"2026-11-21T25:00:00Z\"", "timestamp-invalid"),
        ("\"2026-11-21T10:00:00\"", "timestamp-invalid"), // no zone
        ("\"2026-11-21\"", "timestamp-invalid"),
        ("\"2026-11-21T10:00:00+25:00\"", "timestamp-invalid"),
        ("\"2026-11-21T10:00:00+14:00Z\"", "timestamp-invalid"),
        ("\"yesterday\"", "timestamp-invalid"),
        ("\"\"", "timestamp-invalid"),
        ("\"1795255199123\"", "timestamp-invalid"), // epoch milliseconds are a number
        ("\"2026-11-21T10:25:31Z\"", "timestamp-in-future"), // 5 minutes and a second ahead
        ("1795255199", "timestamp-too-old"),        // seconds
        ("1795255199.123", "timestamp-too-old"),
        ("1795255199123000", "timestamp-in-future"),    // microseconds
        ("1795255199123000000", "timestamp-in-future"), // nanoseconds
        ("9223372036854775807", "timestamp-in-future"),
        ("9223372036854775808", "timestamp-in-future"),
        ("1e300", "timestamp-in-future"),
        ("-1e300", "timestamp-too-old"),
        ("0", "timestamp-too-old"),
        ("-1", "timestamp-too-old"),
        ("-9223372036854775808", "timestamp-too-old"),
        ("true", "wrong-type"),
        ("[2026,11,21]", "wrong-type"),
        ("null", "missing"),
    ] {
        trial.rejects(timestamp, with("\"2026-11-21T10:00:00Z\"", timestamp), "timestamp", code).await;
    }
    for timestamp in [
        "\"2026-11-22T00:00:00+14:00\"",
        "\"2026-11-20T22:00:00-12:00\"",
        "\"2026-11-21T10:00:00.123456789Z\"",
        "\"2026-11-21 10:00:00Z\"",
        "1795255199123",
        "1795255199123.75",
    ] {
        let taken = trial.post(JSON, with("\"2026-11-21T10:00:00Z\"", timestamp));
        trial.takes(timestamp, taken, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b9_nul_never_reaches_the_database() {
    let trial = Trial::start().await;
    let traced = with("\"status\"", "\"trace_id\":\"trace\",\"status\"");
    for (part, field) in [("shop", "service"), ("GET", "method"), ("/items/{id}", "route"), ("trace", "trace_id")] {
        for nul in ["\\u0000", "a\\u0000b", "\\u0000DROP"] {
            let record = traced.replace(&format!(":\"{part}\""), &format!(":\"{nul}\""));
            trial.rejects(&record, record.clone(), field, "nul-character").await;
        }
        let raw = traced.replace(&format!(":\"{part}\""), ":\"a\0b\"");
        trial.refuses("a raw zero byte is not JSON", trial.post(JSON, raw), 400, "invalid-json").await;
        for half in ["\\ud800", "\\udc00x", "\\ud800\\ud800"] {
            let record = traced.replace(&format!(":\"{part}\""), &format!(":\"{half}\""));
            trial.refuses(half, trial.post(JSON, record), 400, "invalid-json").await;
        }
    }
    let path = with("\"route\":\"/items/{id}\"", "\"path\":\"/items/7\\u0000?a=b\"");
    trial.rejects("path", path, "path", "nul-character").await;
    trial.rejects("timestamp", with("10:00:00Z", "10:00:00\\u0000Z"), "timestamp", "timestamp-invalid").await;
    let unread = with("\"status\"", "\"extra\":\"\\u0000\",\"\\u0000\":1,\"status\"");
    trial.takes("in what is not read", trial.post(JSON, unread), 1).await;

    for path in
        ["/api/v1/endpoints/top?service=%00", "/api/v1/endpoints/top?route=a%00b", "/api/v1/overview?method=GET%00"]
    {
        let name = path.split(['?', '=']).nth(1).unwrap();
        let told = trial.refuses(path, trial.app.request(reqwest::Method::GET, path), 400, "invalid-parameter").await;
        assert!(told["detail"].as_str().unwrap().contains(&format!("`{name}`")), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b10_a_long_route_is_cut_and_other_long_texts_are_refused() {
    let trial = Trial::start().await;
    for (what, size) in [("8 KiB", 8 << 10), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20)] {
        // A character of three bytes: a cut at byte 512 that looked at bytes alone would fall into one of them.
        for (kind, fill) in [("route", "a"), ("path", "b"), ("route", "€"), ("path", "ü")] {
            let long = format!("/{what}{}", fill.repeat(size / fill.len()));
            let record = with("\"route\":\"/items/{id}\"", &json!({ kind: long }).to_string().replace(['{', '}'], ""));
            trial.takes(what, trial.post(JSON, record), 1).await;
            let query = "SELECT route FROM endpoints ORDER BY id DESC LIMIT 1";
            let route: String = trial.tables.query_one(query, &[]).await.unwrap().get(0);
            assert!((509..=512).contains(&route.len()), "{what} of {fill}: {} bytes", route.len());
            let kept = route.strip_suffix('…').unwrap_or_else(|| panic!("{what} of {fill}: not marked: {route}"));
            assert!(long.starts_with(kept), "{what} of {fill}: {route}");
            trial.goes_on(what).await;
        }
    }
    let exact = format!("/{}", "x".repeat(511));
    trial.takes("512 bytes", trial.post(JSON, with("/items/{id}", &exact)), 1).await;
    let found = trial.app.get(&format!("/api/v1/endpoints/top?route={exact}")).await;
    assert_eq!(found["rows"][0]["route"], exact, "as long as may be, so not cut");

    for (what, length) in [("1 KiB", 1 << 10), ("1 MiB", 1 << 20)] {
        let long = "X".repeat(length);
        trial.rejects(what, with("GET", &long), "method", "too-long").await;
        trial.rejects(what, with("shop", &long), "service", "too-long").await;
        let traced = with("\"status\"", &format!("\"trace_id\":\"{long}\",\"status\""));
        trial.rejects(what, traced, "trace_id", "too-long").await;
    }
    trial.rejects("a byte too long", with("shop", &"s".repeat(129)), "service", "too-long").await;
    trial.rejects("65 characters of two bytes", with("shop", &"ü".repeat(65)), "service", "too-long").await;
    trial.takes("128 bytes", trial.post(JSON, with("shop", &"ü".repeat(64))), 1).await;
    let host = with("\"route\":\"/items/{id}\"", &format!("\"path\":\"http://{}/from-a-proxy\"", "h".repeat(1_024)));
    trial.takes("a host of 1 KiB is no part of a route", trial.post(JSON, host), 1).await;
    let found = trial.app.get("/api/v1/endpoints/top?route=/from-a-proxy").await;
    assert_eq!(found["rows"][0]["route"], "/from-a-proxy");
}

#[tokio::test(flavor = "multi_thread")]
async fn b11_what_is_beyond_the_caps_is_counted_as_other() {
    let caps = EndpointCaps { per_service: 5, services: 3, total: 50_000 };
    let app = TestApp::with(Setup {
        ingest: endpoint_stats::ingest::IngestConfig { caps, ..Setup::default().ingest },
        ..Setup::default()
    })
    .await;
    let send = async |records: Vec<String>| -> Value {
        let response = app.post(NDJSON, records.join("\n")).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    };
    let endpoints = "SELECT count(*) FROM endpoints WHERE route <> '{other}'";

    // Four requests of 500 routes each, at once: no replica, worker or batch may overfill the service.
    let batches = (0..4).map(|batch| send((0..500).map(|n| with("/items/{id}", &format!("/{batch}/{n}"))).collect()));
    let told = futures_util::future::join_all(batches).await;
    let overflowed: u64 = told.iter().map(|told| told["overflowed"].as_u64().unwrap()).sum();
    assert_eq!(overflowed, 1_995, "{told:?}");
    assert_eq!(app.database.number(endpoints).await, 5);
    let other = app.get("/api/v1/endpoints/top?service=shop&route={other}").await;
    assert_eq!((&other["total"]["requests"], &other["rows"][0]["route"]), (&1_995.into(), &"{other}".into()));

    let ranking = app.get("/api/v1/endpoints/top?limit=2").await;
    let known = send(vec![with("/items/{id}", ranking["rows"][1]["route"].as_str().unwrap())]).await;
    assert_eq!(
        known["overflowed"],
        Value::Null,
        "what had a place keeps it, and an answer without overflow does not speak of it"
    );

    // A method that nobody registered is one of a fixed list, whatever its name.
    let told = send((0..500).map(|n| with("shop", "methods").replace("GET", &format!("BREW{n}"))).collect()).await;
    assert_eq!(told["overflowed"], Value::Null, "{told}");
    let methods = app.get("/api/v1/endpoints/top?service=methods").await;
    assert_eq!((&methods["total"]["endpoints"], &methods["rows"][0]["method"]), (&1.into(), &"_OTHER".into()));

    // Two services are there; one more finds room.
    let told = send((0..500).map(|n| with("shop", &format!("service-{n}"))).collect()).await;
    assert_eq!(told["overflowed"], 499, "{told}");
    let other = app.get("/api/v1/endpoints/top?service={other}").await;
    assert_eq!(other["total"]["requests"], 499);
    assert_eq!(
        app.database.number("SELECT count(DISTINCT service) FROM endpoints WHERE service <> '{other}'").await,
        3
    );

    // And a service that is full says so to the next request too.
    let told = send(vec![GOOD.to_owned(), with("shop", "service-1000")]).await;
    assert_eq!(told["overflowed"], 2, "{told}");
    let all = app.get("/api/v1/overview").await;
    assert_eq!(all["total"]["requests"], 2_000 + 1 + 500 + 500 + 2, "nothing is lost: {all}");
}
