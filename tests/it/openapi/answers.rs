//! Real answers against the description: status, headers, content type, and every field of the body.

use std::collections::BTreeSet;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::schema::{faults, fields, resolved};
use super::{Operation, ask, description, operation, operations, with_data};
use crate::harness::{Held, Setup, TestApp, compressed, until};

/// Headers that HTTP itself, not the operation, gives; and those that only browsers look at.
const EVERYWHERE: [&str; 12] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-security-policy",
    "content-type",
    "cross-origin-resource-policy",
    "date",
    "referrer-policy",
    "transfer-encoding",
    "x-content-type-options",
    "x-frame-options",
];

/// Insists that an answer is as described, and returns what is said of it, in the form of its status and code.
async fn as_described(document: &Value, operation: &Operation<'_>, response: Response) -> String {
    let status = response.status().as_u16();
    let what = format!("{} {}: {status}", operation.method, response.url());
    let told = &operation.told["responses"][status.to_string()];
    assert!(told.is_object(), "{what} is not described");
    for name in
        response.headers().keys().map(reqwest::header::HeaderName::as_str).filter(|name| !EVERYWHERE.contains(name))
    {
        let described =
            told["headers"].as_object().is_some_and(|all| all.keys().any(|known| known.eq_ignore_ascii_case(name)));
        assert!(described, "{what}: the header {name} is not described");
    }
    let content_type = response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    let body = response.text().await.unwrap();
    let Some(content_type) = content_type else {
        assert!(body.is_empty() && told.get("content").is_none(), "{what}");
        return status.to_string();
    };
    let essence = content_type.split(';').next().unwrap();
    let content = &told["content"][essence];
    assert!(content.is_object(), "{what}: {essence} is not described");
    if !essence.ends_with("json") {
        return format!("{status} {essence}");
    }
    let body: Value = serde_json::from_str(&body).unwrap();
    // The description itself may be any object.
    if operation.path != "/openapi.json" {
        assert_eq!(faults(document, &content["schema"], &body), Vec::<String>::new(), "{what}: {body}");
    }
    let Some(code) = body["code"].as_str().filter(|_| status >= 400) else { return status.to_string() };
    assert!(content["examples"].get(code).is_some(), "{what}: the code {code} is not described");
    format!("{status} {code}")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_answers_as_described() {
    let app = with_data().await;
    let document = description(&app).await;
    for operation in operations(&document).iter().filter(|operation| operation.method == Method::GET) {
        let path = operation.example_path();
        let first = ask(&app, &path).await;
        let etag = first.headers().get("etag").cloned();
        assert!(as_described(&document, operation, first).await.starts_with("200"), "{path}");
        if operation.is_question() {
            let again = app.request(Method::GET, &path).header("If-None-Match", etag.unwrap()).send().await.unwrap();
            assert_eq!(as_described(&document, operation, again).await, "304");
        }
        if operation.is_question() || operation.looks_after() {
            let unknown = ask(&app, &format!("{path}?unknown=1")).await;
            assert_eq!(as_described(&document, operation, unknown).await, "400 invalid-parameter");
        }
    }
    let find = |path: &str| operations(&document).into_iter().find(|operation| operation.path == path).unwrap();
    for (path, asked, said) in [
        ("/api/v1/endpoints/top", "/api/v1/endpoints/top?compare=previous", "200"),
        ("/api/v1/endpoints/{id}", "/api/v1/endpoints/2", "404 endpoint-not-found"),
        ("/api/v1/endpoints/{id}/requests", "/api/v1/endpoints/2/requests", "404 endpoint-not-found"),
        ("/api/v1/endpoints/{id}/series", "/api/v1/endpoints/2/series", "404 endpoint-not-found"),
        ("/api/v1/endpoints/{id}/series", "/api/v1/endpoints/1/series?window=400d&step=1m", "400 invalid-parameter"),
        (
            "/api/v1/endpoints/{id}/series",
            "/api/v1/endpoints/1/series?from=2026-01-01&to=2026-01-02&step=1m",
            "422 finer-than-kept",
        ),
        ("/api/v1/endpoints/top", "/api/v1/endpoints/top?tz=Europe/Berlin&format=json", "200"),
        ("/api/v1/daily", "/api/v1/daily?tz=Europe/Berlin", "200"),
        ("/api/v1/endpoints/{id}/series", "/api/v1/endpoints/1/series?tz=Europe/Berlin&step=1d", "200"),
        ("/api/v1/endpoints/top", "/api/v1/endpoints/top?tz=Asia/Kolkata", "422 time-zone-off-the-hour"),
        ("/api/v1/daily", "/api/v1/daily?tz=Asia/Kolkata", "422 time-zone-off-the-hour"),
        ("/api/v1/endpoints/{id}/series", "/api/v1/endpoints/1/series?tz=Asia/Kolkata", "422 time-zone-off-the-hour"),
        ("/api/v1/jobs/{name}", "/api/v1/jobs/nothing", "404 no-such-job"),
        ("/docs/{file}", "/docs/nothing", "404 not-found"),
    ] {
        assert_eq!(as_described(&document, &find(path), ask(&app, asked).await).await, said, "{asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_out_of_date_are_as_described_too() {
    let app = with_data().await;
    let document = description(&app).await;
    let operations = operations(&document);
    let questions = || operations.iter().filter(|operation| operation.is_question());
    for question in questions() {
        ask(&app, &question.example_path()).await;
    }
    let _shut = app.database.shut().await;
    app.clock.advance(chrono::TimeDelta::hours(20));
    for question in questions() {
        let told = app.request(Method::GET, &question.example_path()).send().await.unwrap();
        assert_eq!(told.headers()["x-cache"], "stale", "{}", question.path);
        assert_eq!(as_described(&document, question, told).await, "200", "{}", question.path);
    }
    assert_eq!(questions().count(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_has_the_described_fields_as_columns() {
    let app = with_data().await;
    let document = description(&app).await;
    let mut tables = 0;
    for operation in operations(&document) {
        let content = &operation.told["responses"]["200"]["content"];
        if content.get("text/csv").is_none() {
            continue;
        }
        tables += 1;
        let response = ask(&app, &format!("{}?format=csv&window=30d", operation.path)).await;
        assert_eq!(response.headers()["content-type"], "text/csv; charset=utf-8");
        let body = response.text().await.unwrap();
        let columns: BTreeSet<&str> = body.lines().next().unwrap().split(',').collect();
        let (answer, _) = fields(&document, &content["application/json"]["schema"]);
        let (row, _) = fields(&document, &resolved(&document, answer["rows"])["items"]);
        let described: BTreeSet<&str> = row.keys().copied().filter(|name| *name != "previous").collect();
        assert_eq!(columns, described, "{}", operation.path);
        assert_eq!(body.lines().count(), 2, "{body}");
    }
    assert_eq!(tables, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_records_is_as_described() {
    let app = TestApp::with(Setup { max_body_bytes: 4_096, ..Setup::default() }).await;
    let document = description(&app).await;
    let operation = operation(&document, "sendRecords");
    let good = document["components"]["schemas"]["Record"]["examples"][0].to_string();
    let bad = good.replace("\"GET\"", "7");
    let (json, lines) = ("application/json", "application/x-ndjson");
    let post = |content_type: &str, body: &str| app.post(content_type, body.to_owned());
    let mut seen = BTreeSet::new();
    for (request, said) in [
        (post(json, &good), "200"),
        (post(json, &format!("[{good},{bad}]")), "200"),
        (post(lines, &format!("{good}\n{bad}\n7")), "200"),
        (post(json, &good).header("Idempotency-Key", "described"), "200"),
        (post(json, &good).header("Idempotency-Key", "described"), "200"),
        (post(json, &bad).header("Idempotency-Key", "described"), "422"),
        (post(json, &format!("[{good},{good}]")).header("Idempotency-Key", "described"), "422 idempotency-key-reused"),
        (post(json, &bad), "422"),
        (post(json, "{"), "400 invalid-json"),
        (post(json, &good).header("Idempotency-Key", "two words"), "400 invalid-idempotency-key"),
        (post(json, &good).header("Content-Encoding", "gzip"), "400 corrupt-encoding"),
        (app.post(json, vec![0xff]), "400 invalid-utf8"),
        (app.post(json, compressed::gzip(good.as_bytes())).header("Content-Encoding", "gzip"), "200"),
        (post(json, &" ".repeat(5_000)), "413 body-too-large"),
        (post("text/csv", &good), "415 unsupported-content-type"),
        (post(json, &good).header("Content-Encoding", "br"), "415 unsupported-content-encoding"),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(as_described(&document, &operation, response).await, said);
        seen.insert(said);
    }
    assert!(seen.len() > 8);
    let with_query = app.request(Method::POST, "/api/v1/requests?a=1").send().await.unwrap();
    assert_eq!(as_described(&document, &operation, with_query).await, "400 invalid-parameter");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_asking_for_a_run_is_as_described() {
    let app = TestApp::start().await;
    let document = description(&app).await;
    let run = operation(&document, "runJob");
    let ask = |path: &str| app.request(Method::POST, path);
    let held = Held::on(&app.database, "rollup_deltas").await;
    for (path, said) in [
        ("/api/v1/jobs/fold/run", "202"),
        ("/api/v1/jobs/fold/run", "409 job-already-running"),
        ("/api/v1/jobs/nothing/run", "404 no-such-job"),
        ("/api/v1/jobs/refresh/run?a=1", "400 invalid-parameter"),
    ] {
        assert_eq!(as_described(&document, &run, ask(path).send().await.unwrap()).await, said, "{path}");
    }
    // With a run that is at work, with one that has ended, and while nobody can tell.
    let looks = ["jobs", "job"].map(|id| operation(&document, id));
    let look = async |said: &str| {
        for operation in &looks {
            let response = app.request(Method::GET, &operation.example_path()).send().await.unwrap();
            assert_eq!(as_described(&document, operation, response).await, said, "{}", operation.path);
        }
    };
    look("200").await;
    held.release().await;
    until("it has ended", async || app.get("/api/v1/jobs/fold").await["state"] == "idle").await;
    look("200").await;
    let _shut = app.database.shut().await;
    look("503 database-unavailable").await;
    let away = ask("/api/v1/jobs/fold/run").send().await.unwrap();
    assert_eq!(as_described(&document, &run, away).await, "503 database-unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_taken_as_described() {
    let app = TestApp::start().await;
    let document = description(&app).await;
    let schema = &document["components"]["schemas"]["Record"];
    let good = &schema["examples"][0];
    let accepted =
        async |record: &Value| app.post("application/json", record.to_string()).send().await.unwrap().status() == 200;
    let with = |field: &str, value: Value| {
        let mut record = good.clone();
        if field == "path" {
            record.as_object_mut().unwrap().remove("route");
        }
        record[field] = value;
        record
    };
    assert!(accepted(good).await);
    let (all, required) = fields(&document, schema);
    for (name, field) in all {
        let forms = field["oneOf"].as_array().cloned().unwrap_or_else(|| vec![field.clone()]);
        for example in forms.iter().flat_map(|form| form["examples"].as_array().unwrap()) {
            assert!(accepted(&with(name, example.clone())).await, "{name}: {example}");
        }
        assert!(!accepted(&with(name, json!([true]))).await, "{name}: an array");
        // One of `route` and `path` must be there, which the schema has no words for but its description.
        let needed = required.contains(name) || ["route", "path"].contains(&name);
        let mut without = with(name, Value::Null);
        assert_eq!(accepted(&without).await, !needed, "{name}: null");
        without.as_object_mut().unwrap().remove(name);
        assert_eq!(accepted(&without).await, !needed, "{name}: left out");
        for (bound, by) in [("minimum", -1), ("maximum", 1)] {
            if let Some(number) = field[bound].as_i64() {
                assert!(accepted(&with(name, json!(number))).await, "{name}: {bound}");
                assert!(!accepted(&with(name, json!(number + by))).await, "{name}: {bound}");
            }
        }
        if let Some(most) = field["maxLength"].as_u64() {
            let long = "x".repeat(most as usize + 1);
            assert!(accepted(&with(name, json!(long[1..]))).await, "{name}: maxLength");
            assert!(!accepted(&with(name, json!(long))).await, "{name}: maxLength");
        }
        let least = field["minLength"].as_u64().unwrap_or(0);
        if field["type"] != json!("integer") && forms.len() == 1 && !field["type"].to_string().contains("number") {
            assert_eq!(accepted(&with(name, json!(""))).await, least == 0, "{name}: empty");
        }
    }
    // The lines of the other form.
    let body = &operation(&document, "sendRecords").told["requestBody"];
    let lines = &body["content"]["application/x-ndjson"]["schema"]["examples"][0];
    let answer: Value = app.post_ndjson(lines.as_str().unwrap().to_owned()).await.json().await.unwrap();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(2), &json!(0)));
}
