//! Every error, held to its status, its code and its words.

use super::*;
use std::collections::BTreeSet;

use actix_web::body::MessageBody as _;
use serde_json::Value;

use crate::domain::Zone;

/// What only the service's dependencies, or its insides, would say.
const INSIDE: [&str; 14] = [
    "sqlx",
    "sqlstate",
    "postgres",
    "pg_",
    "psql",
    "redis",
    "deadpool",
    "relation",
    "constraint",
    "actix",
    "tokio",
    "panic",
    ".rs",
    "/src",
];

fn off_the_hour() -> OffTheHour {
    let zone: Zone = "Asia/Kolkata".parse().unwrap();
    let day = "2026-11-21".parse().unwrap();
    OffTheHour { zone, day, begins: zone.start_of(day) }
}

/// Every error with the status, the code and the seconds of `Retry-After` that clients were promised.
fn promised() -> Vec<(ApiError, u16, &'static str, Option<&'static str>)> {
    let within = Duration::from_secs(15);
    let body = |error: InvalidBody| ApiError::InvalidBody(error);
    vec![
        (ApiError::parameter("limit", "must be 1"), 400, "invalid-parameter", None),
        (body(InvalidBody::NotUtf8(7)), 400, "invalid-utf8", None),
        (body(InvalidBody::NotJson("expected value at line 1 column 1".to_owned())), 400, "invalid-json", None),
        (body(InvalidBody::Empty), 400, "invalid-json", None),
        (ApiError::CorruptEncoding, 400, "corrupt-encoding", None),
        (ApiError::BodyTooLarge { limit: 16 << 20 }, 413, "body-too-large", None),
        (ApiError::BodyTooSlow { within }, 408, "body-too-slow", None),
        (ApiError::UnsupportedType, 415, "unsupported-content-type", None),
        (ApiError::UnsupportedEncoding, 415, "unsupported-content-encoding", None),
        (ApiError::InvalidKey, 400, "invalid-idempotency-key", None),
        (ApiError::KeyReused, 422, "idempotency-key-reused", None),
        (ApiError::KeyHeld, 409, "idempotency-key-in-use", Some("2")),
        (ApiError::QueueFull, 429, "queue-full", Some("2")),
        (ApiError::NoRoom, 429, "too-many-bodies", Some("2")),
        (ApiError::RateLimited { retry_after: 7 }, 429, "rate-limited", Some("7")),
        (ApiError::Stopping, 503, "stopping", Some("2")),
        (ApiError::Unauthorized { presented: false }, 401, "unauthorized", None),
        (ApiError::Unauthorized { presented: true }, 401, "unauthorized", None),
        (ApiError::Forbidden { wanted: Scope::Read }, 403, "forbidden", None),
        (ApiError::KeyInUrl, 400, "key-in-url", None),
        (ApiError::TwoAuthorizations, 400, "two-authorizations", None),
        (ApiError::NoSuchPage, 404, "not-found", None),
        (ApiError::NoSuchEndpoint, 404, "endpoint-not-found", None),
        (ApiError::NoSuchJob, 404, "no-such-job", None),
        (ApiError::JobRunning, 409, "job-already-running", Some("2")),
        (ApiError::MethodNotAllowed { allow: "GET, HEAD" }, 405, "method-not-allowed", None),
        (ApiError::FinerThanKept { since: "2026-11-19T10:00:00Z".to_owned() }, 422, "finer-than-kept", None),
        (ApiError::OffTheHour(off_the_hour()), 422, "time-zone-off-the-hour", None),
        (ApiError::Unavailable, 503, "database-unavailable", Some("2")),
        (ApiError::StorageFull, 503, "storage-full", Some("60")),
        (ApiError::TimedOut, 503, "timed-out", Some("2")),
        (ApiError::CommitUnknown, 503, "commit-unknown", Some("2")),
        (ApiError::NotStored, 503, "not-stored", Some("60")),
        (ApiError::Internal, 500, "internal", None),
    ]
}

#[test]
fn every_error_is_told_whole_by_a_code_of_its_own_and_says_nothing_of_the_inside() {
    let (mut kinds, mut codes) = (BTreeSet::new(), BTreeSet::new());
    for (error, status, code, retry_after) in promised() {
        let kind = format!("{error:?}").split([' ', '(']).next().unwrap_or_default().to_owned();
        // Only what is wrong with a body has two: it is not text, or it is not JSON.
        assert!(codes.insert(code) || kinds.contains(&kind), "{code} is two kinds of error");
        kinds.insert(kind);

        let response = error.response();
        let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(response.status().as_u16(), status, "{code}");
        assert_eq!(header("retry-after").as_deref(), retry_after, "{code}");
        assert_eq!(header("content-type").as_deref(), Some("application/problem+json"), "{code}");
        let said: Vec<String> = response.headers().iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
        let bytes = response.into_body().try_into_bytes().unwrap();
        let told: Value = serde_json::from_slice(&bytes).unwrap();
        let mut members: Vec<&str> = told.as_object().unwrap().keys().map(String::as_str).collect();
        members.sort_unstable();
        assert_eq!(members, ["code", "detail", "status", "suggestion", "title", "type"], "{code}");
        assert_eq!((&told["code"], &told["status"]), (&code.into(), &status.into()));
        assert_eq!(told["type"], format!("urn:endpoint-stats:problem:{code}"));
        for member in ["title", "detail", "suggestion"] {
            assert!(told[member].as_str().is_some_and(|text| text.len() > 8), "{code}: {member}: {told}");
        }
        let all = format!("{} {told}", said.join(" ")).to_lowercase();
        for word in INSIDE {
            assert!(!all.contains(word), "{code} says {word}: {all}");
        }
        // A client may send again what was answered 503, and is told when; 500 is for mistakes of the service alone.
        assert_eq!(status == 503, status > 500, "{code}");
        assert!(status != 503 || retry_after.is_some(), "{code} does not say when to try again");
    }
    let (_, variants) = include_str!("../error.rs").split_once("enum ApiError {").unwrap();
    let names = variants.split_once("\n}").unwrap().0.lines();
    let names = names.map(|line| line.trim().split([' ', '(', ',', '{']).next().unwrap_or_default());
    let names: BTreeSet<String> = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
    assert_eq!(kinds, names, "every error is told here");
}

#[test]
fn what_postgres_says_stays_inside_and_what_it_cannot_do_is_503() {
    let said = || std::io::Error::other("FATAL: relation \"api_keys\" does not exist at /var/lib/postgresql");
    for (error, code) in [
        (StoreError::Unavailable(said().into()), "database-unavailable"),
        (StoreError::Contended, "database-unavailable"),
        (StoreError::KeyHeld, "database-unavailable"),
        (StoreError::CommitUnknown, "database-unavailable"),
        (StoreError::StorageFull(said().into()), "storage-full"),
        (StoreError::TimedOut, "timed-out"),
        (StoreError::Unexpected(said().into()), "internal"),
    ] {
        let told = ApiError::from(Arc::new(StatsError::Store(error))).told();
        assert_eq!((told.code, told.status.as_u16()), (code, if code == "internal" { 500 } else { 503 }));
        let body = serde_json::to_string(&told.problem()).unwrap();
        assert!(!body.contains("relation") && !body.contains("/var"), "{body}");
    }
    for failure in [
        FlushFailure::Unavailable,
        FlushFailure::StorageFull,
        FlushFailure::TimedOut,
        FlushFailure::CommitUnknown,
        FlushFailure::Unexpected,
    ] {
        let told = ApiError::from(IngestError::Flush(failure)).told();
        assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE, "{}", told.code);
    }
}
