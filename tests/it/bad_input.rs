//! What comes in wrong, row by row of the list of bad inputs that the service is held to.
//!
//! | module | rows |
//! |---|---|
//! | `bodies` | B1 too large, B2 bombs and damaged streams, B3 types and encodings, B4 UTF-8, B5 depth, B6 documents |
//! | `fields` | B7 numbers, B8 timestamps, B9 NUL, B10 long texts, B11 endpoints without end |
//! | `texts` | B12 texts that mean something to COPY, B14 SQL in every field |
//! | `requests` | B15, B19 to B23, B28: heads and methods that are wrong, that lie, or that mean to get past a proxy |
//! | `memory` | B1 to B5 by several clients at once, and what the process has in memory meanwhile |
//! | `log` | B16: what a client writes stays one line of the log |
//! | `parameters` | B13 parameters of every question, B14 SQL in every parameter |
//! | `answers` | B24 validators and ranges, B25 OTLP, B26 lines of access logs, B27 formulas in CSV |
//!
//! B17 and B18, what is wrong with keys and what a wrong one can learn from the time of its refusal, stand in `keys`.
//!
//! Each input is held to more than its status. The answer is a problem in words of this API, without a word of the
//! database's; nothing was stored; and the next good request is answered as if nothing had been. [`Trial`] sees to that for
//! every line of every table.

mod answers;
mod bodies;
mod fields;
mod log;
mod memory;
mod parameters;
mod requests;
mod texts;

use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

use crate::harness::{Setup, TestApp};

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";

/// A record that is taken. The tables make bad ones of it by replacing a part.
const GOOD: &str = r#"{"timestamp":"2026-11-21T10:00:00Z","service":"shop","method":"GET","route":"/items/{id}","status":200,"response_time_ms":12.7}"#;

/// Words that only the database or its driver would say.
const DRIVER_WORDS: [&str; 6] = ["sqlstate", "sqlx", "postgres", "pg_", "relation", "syntax error at or near"];

/// [`GOOD`] with a part replaced, which must be there.
fn with(part: &str, other: &str) -> String {
    assert!(GOOD.contains(part), "{part} is not in the good record");
    GOOD.replace(part, other)
}

/// A service, and a look at its tables past it.
struct Trial {
    app: TestApp,
    tables: tokio_postgres::Client,
    good: AtomicU64,
}

/// Rows of requests, rollup_deltas, endpoints and ingest_batches.
type Stored = [i64; 4];

impl Trial {
    async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    async fn with(setup: Setup) -> Self {
        let app = TestApp::with(setup).await;
        let tables = app.database.connect().await;
        let trial = Self { app, tables, good: AtomicU64::new(0) };
        trial.goes_on("the start").await;
        trial
    }

    async fn stored(&self) -> Stored {
        let counts = "SELECT (SELECT count(*) FROM requests), (SELECT count(*) FROM rollup_deltas),
                             (SELECT count(*) FROM endpoints), (SELECT count(*) FROM ingest_batches)";
        let row = self.tables.query_one(counts, &[]).await.unwrap();
        [row.get(0), row.get(1), row.get(2), row.get(3)]
    }

    /// A POST of records.
    fn post(&self, content_type: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.app.post(content_type, body)
    }

    /// The request is refused as a whole: a problem with this status and code, nothing stored, and the service goes on.
    async fn refuses(&self, what: &str, request: RequestBuilder, status: u16, code: &str) -> Value {
        let before = self.stored().await;
        let request = request.build().unwrap();
        let is_question = request.method() == Method::GET;
        let told = problem(what, self.app.client.execute(request).await.unwrap(), status, code).await;
        assert_eq!(self.stored().await, before, "{what}: something was stored");
        // The next good request is one of the same kind.
        if is_question {
            self.still_answers(what).await
        } else {
            self.goes_on(what).await
        }
        told
    }

    /// A body that is JSON is not refused: its only record is, by the name of the field.
    async fn rejects(&self, what: &str, record: impl Into<reqwest::Body>, field: &str, code: &str) {
        let before = self.stored().await;
        let (status, text) = answer(what, self.post(JSON, record).send().await.unwrap()).await;
        assert_eq!(status, 422, "{what}: {text}");
        let told: Value = serde_json::from_str(&text).unwrap();
        let error = &told["errors"][0];
        assert_eq!(
            (&told["accepted"], &told["rejected"], &error["index"], &error["field"], &error["code"]),
            (&0.into(), &1.into(), &0.into(), &field.into(), &code.into()),
            "{what}: {text}"
        );
        assert!(error["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{what}: {text}");
        assert_eq!(self.stored().await, before, "{what}: something was stored");
        self.goes_on(what).await;
    }

    /// Every record of the body is taken.
    async fn takes(&self, what: &str, request: RequestBuilder, records: u64) -> Value {
        let (status, text) = answer(what, request.send().await.unwrap()).await;
        assert_eq!(status, 200, "{what}: {text}");
        let told: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&told["accepted"], &told["rejected"]), (&records.into(), &0.into()), "{what}: {text}");
        told
    }

    /// A good record is stored and is in the next answer.
    async fn goes_on(&self, what: &str) {
        self.takes(what, self.post(JSON, with("/items/{id}", "/still/works")), 1).await;
        self.good.fetch_add(1, Ordering::SeqCst);
        self.still_answers(what).await;
    }

    /// The good records are all there, and once.
    async fn still_answers(&self, what: &str) {
        let sent = self.good.load(Ordering::SeqCst);
        let ranking = self.app.get("/api/v1/endpoints/top?route=/still/works").await;
        assert_eq!(ranking["total"]["requests"], sent, "after {what}: {ranking}");
    }
}

/// Insists that an answer is a problem as RFC 9457 and the API have it.
async fn problem(what: &str, response: Response, status: u16, code: &str) -> Value {
    let headers = response.headers().clone();
    let (told_status, text) = answer(what, response).await;
    assert_eq!(told_status, status, "{what}: {text}");
    assert_eq!(headers["content-type"], "application/problem+json", "{what}: {text}");
    assert_eq!(headers["x-content-type-options"], "nosniff", "{what}");
    assert_eq!(headers["cache-control"], "no-store", "{what}");
    complete(what, &text, status, code)
}

/// Insists on every member of a problem.
fn complete(what: &str, text: &str, status: u16, code: &str) -> Value {
    let told: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("{what}: not JSON: {text}"));
    for member in ["type", "title", "detail", "code", "suggestion"] {
        assert!(told[member].as_str().is_some_and(|said| !said.is_empty()), "{what}: no {member}: {text}");
    }
    assert_eq!((&told["status"], &told["code"]), (&status.into(), &code.into()), "{what}: {text}");
    told
}

/// Status and text of an answer, which says nothing of the database.
async fn answer(what: &str, response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let lower = text.to_lowercase();
    for word in DRIVER_WORDS {
        assert!(!lower.contains(word), "{what}: the answer says {word}: {text}");
    }
    (status, text)
}
