//! The document by itself, and against the table of routes.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::Value;

use super::schema::{faults, fields, resolved};
use super::{description, operations};
use crate::harness::TestApp;

/// Every place below `value` that has the key `name`, with what stands there.
fn everywhere<'v>(value: &'v Value, name: &str, found: &mut Vec<&'v Value>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get(name));
            object.values().for_each(|below| everywhere(below, name, found));
        }
        Value::Array(items) => items.iter().for_each(|below| everywhere(below, name, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_hangs_together() {
    let app = TestApp::start().await;
    let document = description(&app).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document["info"]["license"]["identifier"], env!("CARGO_PKG_LICENSE"));

    let mut references = Vec::new();
    everywhere(&document, "$ref", &mut references);
    let references: BTreeSet<&str> = references.into_iter().map(|path| path.as_str().unwrap()).collect();
    for path in &references {
        assert!(document.pointer(path.strip_prefix('#').unwrap()).is_some(), "{path} leads nowhere");
    }
    for kind in ["schemas", "headers"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            let path = format!("#/components/{kind}/{name}");
            assert!(references.contains(path.as_str()), "nothing refers to {path}");
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        for (field, told) in fields(&document, schema).0 {
            let said = told.get("description").or_else(|| told["oneOf"][0].get("description"));
            assert!(said.is_some(), "nothing is said of {name}.{field}");
        }
    }
    let tags: Vec<&Value> = document["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
    let mut ids = BTreeSet::new();
    for operation in operations(&document) {
        let (told, path) = (operation.told, operation.path);
        assert!(ids.insert(told["operationId"].as_str().unwrap()), "two operations are {}", told["operationId"]);
        assert!(tags.contains(&&told["tags"][0]), "{path}: {}", told["tags"]);
        assert!(told["summary"].as_str().is_some_and(|summary| summary.len() > 5), "{path}");
        assert_eq!(told.get("security").is_some(), path.starts_with("/api/"), "{path}");
        for name in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
            assert!(operation.parameters("path").any(|parameter| parameter["name"] == name), "{path}: {name}");
        }
        for (status, response) in told["responses"].as_object().unwrap() {
            assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{path}: {status}");
        }
    }
    assert_eq!(document["components"]["securitySchemes"]["apiKey"]["scheme"], "bearer");
}

/// Methods and paths of the table, from its source: actix tells nobody what it routes.
///
/// Every `.service(…)` in it must be of a form that is read here, so a route that is written otherwise fails the test rather
/// than passing unseen. What a handler takes and answers is for `parameters` and `answers`.
fn table() -> BTreeMap<String, Method> {
    let source = include_str!("../../../src/http/mod.rs");
    let (_, table) = source.split_once("\nfn routes(").expect("the table of routes");
    let (table, _) = table.split_once("\n}").expect("its end");
    let mut found = BTreeMap::new();
    for entry in table.split(".service(").skip(1) {
        let entry = entry.split(".default_service(").next().unwrap();
        let path = entry.split('"').nth(1).unwrap_or_else(|| panic!("a route without a path: {entry}"));
        let method = match entry {
            entry if ["open(", "read(", "admin_read("].iter().any(|tier| entry.starts_with(tier)) => Method::GET,
            entry if ["write(", "admin_run("].iter().any(|tier| entry.starts_with(tier)) => Method::POST,
            other => panic!("a route of a new form; teach this test to read it: {other}"),
        };
        assert!(found.insert(path.to_owned(), method).is_none(), "{path} stands there twice");
    }
    assert!(!table.contains(".route("), "a route beside the services: {table}");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_described_and_nothing_else() {
    let app = TestApp::start().await;
    let document = description(&app).await;
    let described: BTreeMap<String, Method> =
        operations(&document).iter().map(|operation| (operation.path.to_owned(), operation.method.clone())).collect();
    assert_eq!(operations(&document).len(), described.len(), "one method a path");
    assert_eq!(described, table());
    // What is described is there; other methods are not.
    for operation in operations(&document) {
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
            let status = app.request(method.clone(), &operation.example_path()).send().await.unwrap().status();
            assert_eq!(status != 405, method == operation.method, "{method} {}: {status}", operation.path);
        }
        let head = app.request(Method::HEAD, &operation.example_path()).send().await.unwrap().status();
        assert_eq!(head != 405, operation.method == Method::GET, "HEAD {}: {head}", operation.path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_a_body_is_what_its_schema_says() {
    let app = TestApp::start().await;
    let document = description(&app).await;
    let mut examples = 0;
    let mut contents = Vec::new();
    everywhere(&document, "content", &mut contents);
    for content in contents.iter().flat_map(|content| content.as_object().unwrap().values()) {
        for example in content["examples"].as_object().into_iter().flat_map(|examples| examples.values()) {
            let value = &resolved(&document, example)["value"];
            assert_eq!(faults(&document, &content["schema"], value), Vec::<String>::new(), "{value}");
            examples += 1;
        }
    }
    for schema in document["components"]["schemas"].as_object().unwrap().values() {
        let mut places = vec![schema];
        places.extend(schema["properties"].as_object().into_iter().flat_map(|fields| fields.values()));
        for place in places {
            for example in place["examples"].as_array().into_iter().flatten() {
                assert_eq!(faults(&document, place, example), Vec::<String>::new(), "{example}");
                examples += 1;
            }
        }
    }
    assert!(examples > 40, "{examples}");
}
