//! Questions over HTTP.
//!
//! | file | what it holds the answers to |
//! |---|---|
//! | `ranking` | `/endpoints/top`: orders, filters, ties, shares, comparison, CSV, ways to write a window |
//! | `stages` | the same figures whether data lies in deltas, minutes, hours, the view, or a stale day of it |
//! | `endpoint` | one endpoint: figures, series, raw requests |
//! | `overview` | totals by service, and days |
//! | `zones` | days of a time zone: over changes of clocks, at every stage, and off the full hour |
//! | `manners` | HEAD, 304, 404, 405, `Cache-Control` |
//! | `snapshot` | totals while ingest, fold and refresh go on |

mod endpoint;
mod manners;
mod overview;
mod ranking;
mod snapshot;
mod stages;
mod zones;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::TestApp;

/// The routes of an answer's rows, in their order.
fn routes(answer: &Value) -> Vec<&str> {
    answer["rows"].as_array().expect("rows").iter().map(|row| row["route"].as_str().expect("a route")).collect()
}

/// One column of an answer's rows, in their order.
fn column<'a>(answer: &'a Value, name: &str) -> Vec<&'a Value> {
    answer["rows"].as_array().expect("rows").iter().map(|row| &row[name]).collect()
}

/// The number of the endpoint with this route.
async fn id_of(app: &TestApp, route: &str) -> i64 {
    let answer = app.get("/api/v1/endpoints/top?window=400d&limit=1000").await;
    let row = answer["rows"].as_array().unwrap().iter().find(|row| row["route"] == route);
    row.unwrap_or_else(|| panic!("no endpoint {route} in {answer}"))["id"].as_i64().unwrap()
}

/// Asks, and insists on this problem. Returns it.
async fn refused(app: &TestApp, path: &str, status: StatusCode, code: &str) -> Value {
    let response = app.request(Method::GET, path).send().await.unwrap();
    let found = response.status();
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    let text = response.text().await.unwrap();
    assert_eq!((found, content_type.as_str()), (status, "application/problem+json"), "GET {path}: {text}");
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(problem["code"], code, "GET {path}: {problem}");
    assert_eq!(problem["status"], status.as_u16());
    problem
}

/// `count` records of a route with one status and one response time.
fn records(count: usize, timestamp: &str, route: &str, status: u16, response_time_ms: Option<f64>) -> Vec<Value> {
    let record = json!({
        "timestamp": timestamp, "service": "shop", "method": "GET", "route": route, "status": status,
        "response_time_ms": response_time_ms,
    });
    vec![record; count]
}
