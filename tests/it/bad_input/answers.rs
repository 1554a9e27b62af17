//! What is asked of answers and of formats that are not this API's: B24 to B27.

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{JSON, Trial, with};
use crate::harness::{Database, process};

/// A question about a closed day, so that its answer stays the same.
const QUESTION: &str = "/api/v1/endpoints/top?from=2026-11-20&to=2026-11-21";

#[tokio::test(flavor = "multi_thread")]
async fn b24_an_answer_is_not_modified_only_if_it_is_the_same() {
    let trial = Trial::start().await;
    let ask = |method| trial.app.request(method, QUESTION);
    let first = ask(Method::GET).send().await.unwrap();
    let etag = first.headers()["etag"].to_str().unwrap().to_owned();
    let forged: Vec<String> = (0..1_000).map(|n| format!("\"{n:032x}\"")).collect();
    let strong = etag.trim_start_matches("W/").to_owned();
    for (what, tags, status) in [
        ("the tag", etag.clone(), StatusCode::NOT_MODIFIED),
        ("the tag as a strong one: GET compares weakly", strong.clone(), StatusCode::NOT_MODIFIED),
        ("whatever there is", "*".to_owned(), StatusCode::NOT_MODIFIED),
        ("behind a thousand forged ones", format!("{}, {etag}", forged.join(", ")), StatusCode::NOT_MODIFIED),
        ("a thousand forged ones", forged.join(", "), StatusCode::OK),
        ("without quotation marks", strong.trim_matches('"').to_owned(), StatusCode::OK),
        ("a part of it", strong[..10].to_owned(), StatusCode::OK),
        ("in capitals", strong.to_uppercase().replace("W/", ""), StatusCode::OK),
        ("no tag", String::new(), StatusCode::OK),
    ] {
        for encoding in ["identity", "gzip"] {
            let request = ask(Method::GET).header("If-None-Match", &tags).header("Accept-Encoding", encoding);
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), status, "{what}, {encoding}");
            for name in ["etag", "cache-control", "vary", "age", "x-cache", "x-request-id"] {
                assert!(response.headers().contains_key(name), "{what}, {encoding}: {name}");
            }
            assert_eq!(response.headers()["etag"], etag.as_str(), "{what}, {encoding}");
            assert_eq!(response.bytes().await.unwrap().is_empty(), status == StatusCode::NOT_MODIFIED, "{what}");
        }
    }
    // Part of an answer is not offered, so the whole of it comes.
    for range in ["bytes=0-10", "bytes=-1", "bytes=999999999-", "lines=1-2", "bytes=0-0,1-1,2-2"] {
        let whole = ask(Method::GET).header("Range", range).header("If-Range", &etag).send().await.unwrap();
        assert_eq!(whole.status(), StatusCode::OK, "{range}");
        assert!(!whole.headers().contains_key("content-range"), "{range}");
        assert!(whole.json::<serde_json::Value>().await.is_ok(), "{range}");
    }
    trial.goes_on("every condition").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b25_other_protocols_are_not_spoken_here() {
    let trial = Trial::start().await;
    let spans = json!({"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "x", "endTimeUnixNano": "1"}]}]}]});
    for path in [
        "/v1/traces",
        "/v1/metrics",
        "/v1/logs",
        "/v1development/profiles",
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    ] {
        for content_type in [JSON, "application/x-protobuf", "application/grpc"] {
            let request = trial.app.request(Method::POST, path).header("Content-Type", content_type);
            trial.refuses(path, request.body(spans.to_string()), 404, "not-found").await;
        }
    }
    // Sent to the right place it is a record without the fields of one.
    trial.rejects("spans as a record", spans.to_string(), "timestamp", "missing").await;
    let protobuf = trial.app.post("application/x-protobuf", spans.to_string());
    trial.refuses("protobuf", protobuf, 415, "unsupported-content-type").await;
}

/// Lines of an access log, and whether each is one.
const LINES: [(&str, bool); 16] = [
    (r#"192.0.2.1 - - [TIME] "GET /a HTTP/1.1" 200 5 "-" "curl/8" 0.100"#, true),
    ("no line of a log at all", false),
    (r#"192.0.2.1 - - [TIME] "GET /a HTTP/1.1" 200 5 "-" "unterminated"#, false),
    (r#"192.0.2.1 - - [TIME] "GET /a HTTP/1.1" - - "-" "-""#, false),
    (r#"192.0.2.1 - - [TIME] "GET /a HTTP/1.1" 304 - "-" "-""#, true),
    (r#"192.0.2.1 - - [TIME] "GET /a HTTP/1.1" 200 5 "-" "curl/8" 0.100, 0.004"#, true),
    (r#"192.0.2.1 - - [TIME] "GET /a HTTP/1.1" 200 5 "-" "curl/8" -1.000"#, false),
    (r#"192.0.2.1 - - [TIME] "- - -" 400 0 "-" "-""#, false),
    (r#"192.0.2.1 - - [TIME] "-" 408 0 "-" "-""#, false),
    (r#"2001:db8::7 - - [TIME] "GET /a HTTP/1.1" 200 5 "-" "curl/8""#, true),
    (r#"[2001:db8::7] - - [TIME] "GET /a HTTP/1.1" 200 5 "-" "curl/8""#, true),
    (r#""192.0.2.1 - - [TIME] ""GET /a HTTP/1.1"" 200 5 ""-"" ""curl/8"""#, false),
    (r#"192.0.2.1 - a user [with] brackets [TIME] "GET /a HTTP/1.1" 200 5 "-" "curl/8""#, true),
    (r#"192.0.2.1 - - [TIME] "GET /a HTTP/1.1" 200 5 "a \"quoted\" referer" "curl/8""#, true),
    (r#"192.0.2.1 - - [not a time] "GET /a HTTP/1.1" 200 5 "-" "curl/8""#, false),
    (r#"192.0.2.1 - - [TIME] "GET /a HTTP/1.1" 200 5 "-" "curl/8" 0.200"#, true),
];

#[tokio::test(flavor = "multi_thread")]
async fn b26_a_bad_line_of_a_log_is_rejected_by_number_and_the_others_go_in() {
    let database = Database::create().await;
    let folder = tempfile::tempdir().unwrap();
    let time = (chrono::Utc::now() - chrono::TimeDelta::hours(1)).format("%d/%b/%Y:%H:%M:%S +0000").to_string();
    let log: String = LINES.map(|(line, _)| format!("{}\n", line.replace("TIME", &time))).concat();
    let path = folder.path().join("access.log");
    std::fs::write(&path, log).unwrap();
    let done = process::run(&database, &["import", path.to_str().unwrap()]).await;
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    let bad = (1..).zip(LINES).filter(|(_, (_, good))| !good).map(|(number, _)| number).collect::<Vec<u32>>();
    assert!(
        done.stdout.contains(&format!("{} records in, {} rejected", LINES.len() - bad.len(), bad.len())),
        "{}",
        done.stdout
    );
    for number in bad {
        assert!(done.stdout.contains(&format!("line {number}:")), "{number}: {}", done.stdout);
    }
    // No field of one line has slipped into another: a path, three statuses, and the only times there are.
    let stored = "SELECT count(DISTINCT endpoint_id) * 1000000 + count(*) FILTER (WHERE status = 304) * 10000
                  + sum(response_time_us) / 1000 FROM requests";
    assert_eq!(database.number(&format!("SELECT ({stored})::bigint")).await, 1_010_000 + 100 + 104 + 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn b27_a_cell_that_a_spreadsheet_would_run_is_defused() {
    let trial = Trial::start().await;
    for service in ["=1+1", "+1", "-1", "@SUM(A1)"] {
        let record = with("\"shop\"", &format!("\"{service}\""));
        trial.takes(service, trial.post(JSON, record), 1).await;
        let encoded: String = url::form_urlencoded::byte_serialize(service.as_bytes()).collect();
        for question in ["endpoints/top?", "daily?"] {
            let path = format!("/api/v1/{question}format=csv&service={encoded}");
            let csv = trial.app.request(Method::GET, &path).send().await.unwrap();
            assert_eq!(csv.headers()["content-type"], "text/csv; charset=utf-8", "{path}");
            let csv = csv.text().await.unwrap();
            assert!(csv.contains(&format!(",'{service},")), "{path}: {csv}");
            assert!(!csv.contains(&format!(",{service},")), "{path}: {csv}");
        }
    }
}
