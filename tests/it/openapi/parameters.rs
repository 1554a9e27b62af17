//! Parameters: taken with their examples, bounded as described, and no others.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::{Operation, ask, description, example, operation, operations, text, with_data};
use crate::harness::TestApp;

/// Whether a question with this parameter is answered; a refusal must name the parameter.
async fn is_taken(app: &TestApp, operation: &Operation<'_>, name: &str, value: &str) -> bool {
    let encoded: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
    // `to` is the end of something.
    let with = if name == "to" { "&from=2026-11-20" } else { "" };
    let path = format!("{}?{name}={encoded}{with}", operation.example_path());
    let response = ask(app, &path).await;
    let status = response.status();
    let said = response.text().await.unwrap();
    if status == StatusCode::BAD_REQUEST {
        let problem: Value = serde_json::from_str(&said).unwrap();
        assert!(problem["detail"].as_str().unwrap().starts_with(&format!("`{name}` ")), "{path}: {said}");
    } else {
        assert_eq!(status, StatusCode::OK, "{path}: {said}");
    }
    status == StatusCode::OK
}

/// What an operation answers, from the database.
async fn said(app: &TestApp, path: &str) -> String {
    ask(app, path).await.text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_is_taken_with_its_example_and_bounded_as_described() {
    let app = with_data().await;
    let document = description(&app).await;
    let mut bounds = BTreeSet::new();
    for operation in operations(&document).iter().filter(|operation| operation.is_question()) {
        for parameter in operation.parameters("query") {
            let (name, schema) = (parameter["name"].as_str().unwrap(), &parameter["schema"]);
            let what = format!("{}: {name}", operation.path);
            let taken = async |value: &str| is_taken(&app, operation, name, value).await;
            assert!(taken(&text(example(parameter))).await, "{what}: its example");
            for (bound, by) in [("minimum", -1), ("maximum", 1)] {
                if let Some(number) = schema[bound].as_i64() {
                    assert!(taken(&number.to_string()).await, "{what}: {bound}");
                    assert!(!taken(&(number + by).to_string()).await, "{what}: {bound}");
                    bounds.insert(bound);
                }
            }
            assert_eq!(schema["type"] == "integer", schema.get("minimum").is_some() && schema.get("maximum").is_some());
            for choice in schema["enum"].as_array().into_iter().flatten() {
                let choice = choice.as_str().unwrap();
                assert!(taken(choice).await, "{what}: {choice}");
                assert!(!taken(&format!("{choice}x")).await, "{what}: {choice}x");
                bounds.insert("enum");
            }
            if let Some(most) = schema["maxLength"].as_u64() {
                let long = "x".repeat(most as usize + 1);
                assert!(taken(&long[1..]).await && !taken(&long).await, "{what}: maxLength");
                bounds.insert("maxLength");
            }
            if schema.get("enum").is_none() && schema.get("maxLength").is_some() {
                assert_eq!(taken("").await, schema["minLength"].as_u64().unwrap_or(0) == 0, "{what}: empty");
            }
            if schema.get("pattern").is_some() {
                assert_eq!(name, "window", "a pattern that nobody tests");
                assert!(taken("1m").await && taken("400d").await, "{what}");
                assert!(!taken("0m").await && !taken("401d").await && !taken("1D").await, "{what}");
            }
            if let Some(usual) = schema.get("default") {
                let path = operation.example_path();
                let given = said(&app, &format!("{path}?{name}={}", text(usual))).await;
                assert_eq!(said(&app, &path).await, given, "{what}: its default");
                bounds.insert("default");
            }
        }
        for parameter in operation.parameters("header") {
            let (name, example) = (parameter["name"].as_str().unwrap(), text(example(parameter)));
            let request = app.request(Method::GET, &operation.example_path()).header(name, example);
            assert_eq!(request.send().await.unwrap().status(), StatusCode::OK, "{}: {name}", operation.path);
        }
    }
    assert_eq!(bounds, ["default", "enum", "maxLength", "maximum", "minimum"].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_in_a_path_is_bounded_as_described() {
    let app = with_data().await;
    let document = description(&app).await;
    let mut numbers = 0;
    for operation in operations(&document).iter().filter(|operation| operation.is_question()) {
        for parameter in operation.parameters("path") {
            let status =
                async |id: i64| ask(&app, &operation.path.replace("{id}", &id.to_string())).await.status().as_u16();
            let (least, most) =
                (parameter["schema"]["minimum"].as_i64().unwrap(), parameter["schema"]["maximum"].as_i64().unwrap());
            assert_eq!((status(least).await, status(most).await), (200, 404), "{}", operation.path);
            assert_eq!((status(least - 1).await, status(most + 1).await), (400, 400), "{}", operation.path);
            numbers += 1;
        }
    }
    assert_eq!(numbers, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_that_is_not_described_is_refused() {
    let app = with_data().await;
    let document = description(&app).await;
    let all = operations(&document);
    let questions = || all.iter().filter(|operation| operation.is_question());
    let names: BTreeSet<&str> = questions()
        .flat_map(|operation| operation.parameters("query"))
        .map(|parameter| parameter["name"].as_str().unwrap())
        .chain(["order", "page", "unknown"])
        .collect();
    for operation in questions() {
        let described: Vec<&str> =
            operation.parameters("query").map(|parameter| parameter["name"].as_str().unwrap()).collect();
        for name in names.iter().filter(|name| !described.contains(name)) {
            assert!(!is_taken(&app, operation, name, "1").await, "{}: {name}", operation.path);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_bounded_as_described() {
    let app = TestApp::start().await;
    let document = description(&app).await;
    let operation = operation(&document, "sendRecords");
    let key = operation.parameters("header").find(|parameter| parameter["name"] == "Idempotency-Key").unwrap();
    let status = async |key: &str| {
        app.post("application/json", "[]").header("Idempotency-Key", key).send().await.unwrap().status().as_u16()
    };
    let most = key["schema"]["maxLength"].as_u64().unwrap() as usize;
    for (good, expected) in
        [(text(example(key)), 200), ("k".repeat(most), 200), ("k".repeat(most + 1), 400), (String::new(), 400)]
    {
        assert_eq!(status(&good).await, expected, "{good}");
    }
    let encodings = operation.parameters("header").find(|parameter| parameter["name"] == "Content-Encoding").unwrap();
    for encoding in encodings["schema"]["enum"].as_array().unwrap() {
        let request = app.post("application/json", "[]").header("Content-Encoding", encoding.as_str().unwrap());
        assert_ne!(request.send().await.unwrap().status().as_u16(), 415, "{encoding}");
    }
}
