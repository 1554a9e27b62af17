//! The description of the API, held against the service it describes.
//!
//! | file | what it holds the description to |
//! |---|---|
//! | `document` | OpenAPI 3.1 that hangs together, with every route of the table and no other |
//! | `answers` | real answers, errors included, are as described: status, headers, every field |
//! | `parameters` | each parameter is taken with its example and bounded as described; no other is taken |
//! | `pages` | `/docs` is whole, and loads nothing from elsewhere |
//! | `schema` | whether a value is what a schema says, unknown fields included |

mod answers;
mod document;
mod pages;
mod parameters;
mod schema;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::harness::TestApp;

/// The description, as the service tells it.
async fn description(app: &TestApp) -> Value {
    app.get("/openapi.json").await
}

/// A service with one endpoint that has enough requests for every figure, its number 1.
async fn with_data() -> TestApp {
    let app = TestApp::start().await;
    let record = json!({
        "timestamp": "2026-11-21T09:30:00Z", "service": "shop", "method": "GET", "route": "/items/{id}", "status": 200,
        "response_time_ms": 12.7, "trace_id": "abc"
    });
    app.accept(&vec![record; 120]).await;
    app
}

/// One operation of the description.
struct Operation<'d> {
    method: Method,
    path: &'d str,
    told: &'d Value,
}

impl<'d> Operation<'d> {
    /// Its path with the examples of its parameters.
    fn example_path(&self) -> String {
        self.parameters("path").fold(self.path.to_owned(), |path, parameter| {
            let name = parameter["name"].as_str().unwrap();
            path.replace(&format!("{{{name}}}"), &text(example(parameter)))
        })
    }

    /// Its parameters in the query, the path or the headers.
    fn parameters(&self, place: &'d str) -> impl Iterator<Item = &'d Value> {
        self.told["parameters"].as_array().into_iter().flatten().filter(move |parameter| parameter["in"] == place)
    }

    fn is_question(&self) -> bool {
        self.told["tags"][0] == "questions"
    }

    /// One that looks at maintenance: its answers are the present state, never kept.
    fn looks_after(&self) -> bool {
        self.told["tags"][0] == "maintenance" && self.method == Method::GET
    }
}

/// The operation of this id.
fn operation<'d>(document: &'d Value, id: &str) -> Operation<'d> {
    let found = operations(document).into_iter().find(|operation| operation.told["operationId"] == id);
    found.unwrap_or_else(|| panic!("no operation {id}"))
}

fn operations(document: &Value) -> Vec<Operation<'_>> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, told) in item.as_object().unwrap() {
            let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap();
            all.push(Operation { method, path, told });
        }
    }
    all
}

/// The example of a parameter.
fn example(parameter: &Value) -> &Value {
    parameter.get("example").unwrap_or_else(|| &parameter["schema"]["examples"][0])
}

/// A value as it stands in a URL or a header.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

async fn ask(app: &TestApp, path: &str) -> Response {
    app.request(Method::GET, path).header("Cache-Control", "no-cache").send().await.unwrap()
}
