//! Texts that mean something to somebody else: to COPY (B12), to SQL (B14). Here they are texts.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::{JSON, NDJSON, Trial};

/// What ends a statement, a literal or a comment, and what would be noticed had it run. The sleep is longer than any
/// statement may take, so one that ran would be a 503.
pub const INJECTIONS: [&str; 14] = [
    "'; DROP TABLE requests; --",
    "'; SELECT pg_sleep(30); --",
    "' OR '1'='1",
    "' UNION SELECT 1, version(), '', '' --",
    "1; DELETE FROM endpoints",
    "1) OR (SELECT 1 FROM pg_sleep(30)) IS NULL --",
    "/works%' OR route LIKE '%",
    "\\'; TRUNCATE rollup_deltas CASCADE; --",
    "$$; DROP SCHEMA public CASCADE; $$",
    "$1",
    "\"; ALTER TABLE requests RENAME TO gone; --",
    "/*' */ OR 1=1",
    "'||(SELECT hash FROM api_keys LIMIT 1)||'",
    "COPY requests FROM PROGRAM 'touch /tmp/endpoint-stats-injected'",
];

/// What COPY, in one of its formats, or JSON, or a terminal takes for more than characters.
const METACHARACTERS: [&str; 33] = [
    "\t",
    "\n",
    "\r\n",
    "\\.",
    "\\N",
    "\\",
    "\\\\",
    "\\t",
    "\"",
    "'",
    "''",
    "a,b",
    "\u{1}",
    "\u{7f}",
    "\u{85}",
    "\u{2028}",
    "\u{feff}",
    "\u{fffd}",
    "\u{10ffff}",
    "é",
    "e\u{301}",
    "ﬀ",
    "\u{202e}abc",
    "{other}",
    " padded ",
    "PGCOPY\n\u{ff}\r\n",
    "\n\\.\n",
    "NULL",
    "%",
    "%00",
    "_",
    "👩‍👩‍👧‍👦",
    "\u{1b}[31m",
];

/// What the schema is made of: a text that changes with any table, column, index, function or role.
pub async fn schema(trial: &Trial) -> String {
    let described = "SELECT concat_ws(E'\n',
        (SELECT string_agg(concat_ws(' ', relname, relkind, relnatts), E'\n' ORDER BY relname) FROM pg_class
         WHERE relnamespace = 'public'::regnamespace),
        (SELECT string_agg(concat_ws(' ', attrelid::regclass, attname, atttypid::regtype), E'\n' ORDER BY attrelid, attnum)
         FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
         WHERE relnamespace = 'public'::regnamespace AND NOT attisdropped),
        (SELECT string_agg(proname, ' ' ORDER BY proname) FROM pg_proc WHERE pronamespace = 'public'::regnamespace),
        (SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles))";
    trial.tables.query_one(described, &[]).await.unwrap().get(0)
}

/// Sends a record with these texts, and reads them back from Postgres and from the API.
async fn comes_back(trial: &Trial, service: &str, route: &str, trace_id: &str) {
    let record = json!({
        "timestamp": "2026-11-21T10:00:00Z", "service": service, "method": "GET", "route": route,
        "status": 200, "response_time_ms": 1.5, "trace_id": trace_id,
    });
    trial.takes(&record.to_string(), trial.post(JSON, record.to_string()), 1).await;

    let stored =
        "SELECT endpoints.id, requests.trace_id FROM endpoints JOIN requests ON requests.endpoint_id = endpoints.id
                  WHERE service = $1 AND route = $2 AND trace_id = $3";
    let rows = trial.tables.query(stored, &[&service, &route, &trace_id]).await.unwrap();
    assert!(!rows.is_empty(), "not stored as it came: {record}");
    let id: i32 = rows[0].get(0);

    let answer = trial.app.get(&format!("/api/v1/endpoints/{id}/requests?limit=1000")).await;
    assert_eq!((&answer["service"], &answer["route"]), (&service.into(), &route.into()));
    let traces: Vec<&Value> =
        answer["requests"].as_array().unwrap().iter().map(|request| &request["trace_id"]).collect();
    assert!(traces.contains(&&Value::from(trace_id)), "{trace_id:?} is not among {traces:?}");

    let ranking = trial.app.get("/api/v1/endpoints/top?limit=1000").await;
    let ranked = ranking["rows"].as_array().unwrap().iter().find(|row| row["id"] == id);
    let ranked = ranked.unwrap_or_else(|| panic!("not in the ranking: {record}"));
    assert_eq!((&ranked["service"], &ranked["route"]), (&service.into(), &route.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn b12_what_means_something_to_copy_is_stored_byte_by_byte() {
    let trial = Trial::start().await;
    for text in METACHARACTERS {
        comes_back(&trial, text, text, text).await;
        comes_back(&trial, &format!("a{text}b"), &format!("/a{text}b"), &format!("a{text}b")).await;
    }
    trial.goes_on("metacharacters").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b12_random_unicode_is_stored_byte_by_byte() {
    let trial = Trial::start().await;
    // NUL is B9's. 30 characters have at most 120 bytes, so nothing is too long or cut.
    let text = || {
        let character = prop_oneof![
            any::<char>(),
            prop::sample::select(vec!['\t', '\n', '\r', '\\', '"', '\'', '.', 'N', '\u{1}'])
        ];
        prop::collection::vec(character.prop_filter("NUL", |character| *character != '\0'), 1..30)
            .prop_map(String::from_iter)
    };
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() });
    let here = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        runner
            .run(&(text(), text(), text()), |(service, route, trace_id)| {
                here.block_on(comes_back(&trial, &service, &route, &trace_id));
                Ok(())
            })
            .unwrap();
    });
    trial.goes_on("random texts").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b12_a_batch_of_so_many_that_copy_takes_it_is_stored_byte_by_byte() {
    let trial = Trial::start().await;
    // Fewer than 2,000 rows go in by INSERT (`COPY_FROM_ROWS` in src/store/flush.rs), as those of the other tests do.
    let sent: Vec<String> = (0..2_500).map(|n| format!("{}{n}", METACHARACTERS[n % METACHARACTERS.len()])).collect();
    let sent: Vec<String> = sent.into_iter().chain(METACHARACTERS.map(str::to_owned)).collect();
    let record = |trace_id: &String| {
        json!({
            "timestamp": "2026-11-21T10:00:00Z", "service": "copied", "method": "GET", "route": "/copied", "status": 200,
            "response_time_ms": 1.5, "trace_id": trace_id,
        })
    };
    let body = Value::Array(sent.iter().map(record).collect()).to_string();
    trial.takes("a large batch", trial.post(JSON, body), sent.len() as u64).await;
    let stored = "SELECT trace_id FROM requests JOIN endpoints ON endpoints.id = endpoint_id WHERE service = 'copied'";
    let rows = trial.tables.query(stored, &[]).await.unwrap();
    let mut found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let mut expected = sent;
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn b14_sql_in_a_field_is_text_or_refused() {
    let trial = Trial::start().await;
    let before = schema(&trial).await;
    let good = |field: &str, value: &str| {
        let mut record = json!({
            "timestamp": "2026-11-21T10:00:00Z", "service": "shop", "method": "GET", "route": "/items/{id}",
            "status": 200, "response_time_ms": 1.5, "trace_id": "trace",
        });
        if field == "path" {
            record.as_object_mut().unwrap().remove("route");
        }
        record[field] = value.into();
        record.to_string()
    };
    for injection in INJECTIONS {
        comes_back(&trial, injection, injection, injection).await;
        trial.takes(injection, trial.post(JSON, good("path", injection)), 1).await;
        trial.takes(injection, trial.post(JSON, good(injection, "as a key")), 1).await;
        trial.rejects(injection, good("timestamp", injection), "timestamp", "timestamp-invalid").await;
        trial.rejects(injection, good("status", injection), "status", "wrong-type").await;
        trial.rejects(injection, good("response_time_ms", injection), "response_time_ms", "wrong-type").await;
        // `$1` is a token of RFC 9110, so it is a method, though not one that anybody registered.
        if injection == "$1" {
            trial.takes(injection, trial.post(JSON, good("method", injection)), 1).await;
        } else {
            let code = if injection.len() > 32 { "too-long" } else { "invalid-method" };
            trial.rejects(injection, good("method", injection), "method", code).await;
        }

        let key = injection.replace(' ', "/**/");
        let keyed = trial.post(NDJSON, good("route", "/keyed")).header("Idempotency-Key", &key);
        trial.takes(injection, keyed, 1).await;
        let kept = "SELECT count(*) FROM ingest_batches WHERE idempotency_key = $1";
        assert_eq!(trial.tables.query_one(kept, &[&key]).await.unwrap().get::<_, i64>(0), 1, "{key}");
        trial.refuses(injection, trial.post(injection, good("route", "/typed")), 415, "unsupported-content-type").await;
    }
    let injected = std::path::Path::new("/tmp/endpoint-stats-injected");
    assert!(!injected.exists());
    // Days made for the records aside, of which this test has one, nothing was made, dropped or renamed.
    assert_eq!(schema(&trial).await, before);
    trial.goes_on("every injection").await;
}
