//! What goes wrong, as a client sees it: `application/problem+json` (RFC 9457). The one place that picks a status.
//!
//! The texts are for the person who sent the request. What Postgres or Redis said is for the log.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{InvalidWindow, Scope};
use crate::ingest::{FlushFailure, IngestError, InvalidBody};
use crate::stats::StatsError;
use crate::store::StoreError;

/// Seconds after which trying again may help: a restart of Postgres takes about as long.
const RETRY_SOON: u32 = 2;

/// Seconds after which a disk that was full may have room again.
const RETRY_LATER: u32 = 60;

/// Why a request is not answered as asked.
#[derive(Debug)]
pub(super) enum ApiError {
    InvalidParameter { name: String, reason: String },
    InvalidBody(InvalidBody),
    CorruptEncoding,
    BodyTooLarge { limit: usize },
    BodyTooSlow { within: Duration },
    UnsupportedType,
    UnsupportedEncoding,
    InvalidKey,
    KeyReused,
    KeyHeld,
    QueueFull,
    NoRoom,
    RateLimited { retry_after: u32 },
    Stopping,
    Unauthorized { presented: bool },
    Forbidden { wanted: Scope },
    KeyInUrl,
    TwoAuthorizations,
    NoSuchPage,
    NoSuchEndpoint,
    MethodNotAllowed { allow: &'static str },
    FinerThanKept { since: String },
    Unavailable,
    StorageFull,
    TimedOut,
    CommitUnknown,
    NotStored,
    Internal,
}

/// Why a request was not answered as asked (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem<'a> {
    /// `urn:endpoint-stats:problem:` and the code.
    r#type: String,
    /// The kind of problem in words.
    title: &'a str,
    /// The HTTP status, once more.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong with this request.
    detail: &'a str,
    /// A stable word for the kind of problem: what programs should look at.
    code: &'a str,
    /// What to do about it.
    suggestion: &'a str,
}

pub(super) struct Told {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) title: &'static str,
    detail: String,
    suggestion: &'static str,
    pub(super) retry_after: Option<u32>,
}

impl Told {
    pub(super) fn problem(&self) -> Problem<'_> {
        Problem {
            r#type: format!("urn:endpoint-stats:problem:{}", self.code),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            suggestion: self.suggestion,
        }
    }
}

impl ApiError {
    pub(super) fn parameter(name: &str, reason: impl Into<String>) -> Self {
        Self::InvalidParameter { name: name.to_owned(), reason: reason.into() }
    }

    pub(super) fn told(&self) -> Told {
        let told = |status, code, title, detail: String, suggestion| Told {
            status,
            code,
            title,
            detail,
            suggestion,
            retry_after: None,
        };
        let later = |code, title, detail: &str, seconds| Told {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code,
            title,
            detail: detail.to_owned(),
            suggestion: "Send the request again after the seconds in Retry-After; with an Idempotency-Key nothing counts twice.",
            retry_after: Some(seconds),
        };
        match self {
            Self::InvalidParameter { name, reason } => told(
                StatusCode::BAD_REQUEST,
                "invalid-parameter",
                "A parameter is not valid",
                format!("`{name}` {reason}."),
                "Correct the parameter and ask again.",
            ),
            Self::InvalidBody(InvalidBody::NotUtf8(at)) => told(
                StatusCode::BAD_REQUEST,
                "invalid-utf8",
                "The body is not UTF-8",
                format!("The bytes are not UTF-8 from offset {at} on."),
                "Send the records as UTF-8.",
            ),
            Self::InvalidBody(error) => told(
                StatusCode::BAD_REQUEST,
                "invalid-json",
                "The body is not valid JSON",
                format!("{error}."),
                "Send one record, an array of records, or, as application/x-ndjson, a record a line.",
            ),
            Self::CorruptEncoding => told(
                StatusCode::BAD_REQUEST,
                "corrupt-encoding",
                "The body cannot be decompressed",
                "The compressed body is cut short or damaged.".to_owned(),
                "Compress the body again and send it whole.",
            ),
            Self::BodyTooLarge { limit } => told(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-too-large",
                "The body is too large",
                format!("A body may have {limit} bytes, compressed or not."),
                "Send fewer records at a time; 5,000 is a good number.",
            ),
            Self::BodyTooSlow { within } => told(
                StatusCode::REQUEST_TIMEOUT,
                "body-too-slow",
                "The body did not arrive in time",
                format!("A body has {} seconds to arrive.", within.as_secs()),
                "Send fewer records at a time, or compress the body.",
            ),
            Self::UnsupportedType => told(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-content-type",
                "The content type is not supported",
                "The header Content-Type must be application/json or application/x-ndjson.".to_owned(),
                "Set the header to what the body is.",
            ),
            Self::UnsupportedEncoding => told(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-content-encoding",
                "The content encoding is not supported",
                "The header Content-Encoding may be gzip or zstd, once, or be left out.".to_owned(),
                "Compress the body with gzip or zstd, or send it as it is.",
            ),
            Self::InvalidKey => told(
                StatusCode::BAD_REQUEST,
                "invalid-idempotency-key",
                "The idempotency key is not valid",
                "An Idempotency-Key has 1 to 255 visible ASCII characters and is given once.".to_owned(),
                "Use a random UUID for each batch.",
            ),
            Self::KeyReused => told(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "The idempotency key was used for another body",
                "A batch with this Idempotency-Key and another content has been stored before. Nothing was stored now."
                    .to_owned(),
                "Use a new key for each batch, and the same key only to send the same batch again.",
            ),
            Self::KeyHeld => Told {
                status: StatusCode::CONFLICT,
                ..later(
                    "idempotency-key-in-use",
                    "The same batch is being stored",
                    "Another delivery with this Idempotency-Key is under way. Nothing was stored for this one.",
                    RETRY_SOON,
                )
            },
            Self::QueueFull => Told {
                status: StatusCode::TOO_MANY_REQUESTS,
                suggestion: "Send the batch again after the seconds in Retry-After, and more slowly.",
                ..later(
                    "queue-full",
                    "Too many records are waiting",
                    "The queue is full. Nothing was stored.",
                    RETRY_SOON,
                )
            },
            Self::NoRoom => Told {
                status: StatusCode::TOO_MANY_REQUESTS,
                suggestion: "Send the batch again after the seconds in Retry-After, and fewer large ones at once.",
                ..later(
                    "too-many-bodies",
                    "Too many large bodies arrive at once",
                    "There is no room for this one now. Nothing was stored.",
                    RETRY_SOON,
                )
            },
            Self::RateLimited { retry_after } => Told {
                status: StatusCode::TOO_MANY_REQUESTS,
                suggestion: "Send the request again after the seconds in Retry-After; RateLimit-Policy says how many are allowed.",
                ..later(
                    "rate-limited",
                    "Too many requests",
                    "This client has used what it may ask for the time being. Nothing was read or stored.",
                    *retry_after,
                )
            },
            Self::Stopping => later(
                "stopping",
                "The service is stopping",
                "This replica is shutting down. Nothing was stored.",
                RETRY_SOON,
            ),
            Self::Unauthorized { presented: false } => told(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "An API key is needed",
                "The request has no header `Authorization: Bearer <key>`.".to_owned(),
                "Send your API key in that header; the operator of the service makes keys with `endpoint-stats keys create`.",
            ),
            // Wrong, revoked and never made are one case, here and in the time it takes: a stranger learns nothing.
            Self::Unauthorized { presented: true } => told(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "The API key is not valid",
                "The key in the header Authorization is mistyped, was revoked, or belongs to another installation.".to_owned(),
                "Check that the whole key is sent, or ask the operator of the service for a new one.",
            ),
            Self::Forbidden { wanted } => told(
                StatusCode::FORBIDDEN,
                "forbidden",
                "The API key does not allow this",
                format!("This resource needs a key of the scope {} or admin.", wanted.name()),
                "Use a key of that scope; the operator of the service makes keys with `endpoint-stats keys create`.",
            ),
            Self::KeyInUrl => told(
                StatusCode::BAD_REQUEST,
                "key-in-url",
                "Keys do not belong in addresses",
                "The query string holds an API key or a parameter meant for one. Addresses are kept in logs and histories."
                    .to_owned(),
                "Send the key in the header `Authorization: Bearer <key>`. If it was a real key, have it revoked and replaced.",
            ),
            Self::TwoAuthorizations => told(
                StatusCode::BAD_REQUEST,
                "two-authorizations",
                "There are two Authorization headers",
                "Which of the keys should count is not clear.".to_owned(),
                "Send the header Authorization once.",
            ),
            Self::NoSuchPage => told(
                StatusCode::NOT_FOUND,
                "not-found",
                "There is nothing here",
                "No resource has this address.".to_owned(),
                "The resources are described at /docs; the ranking is at /api/v1/endpoints/top.",
            ),
            Self::NoSuchEndpoint => told(
                StatusCode::NOT_FOUND,
                "endpoint-not-found",
                "There is no such endpoint",
                "No endpoint has this number.".to_owned(),
                "Take the `id` of a row of /api/v1/endpoints/top.",
            ),
            Self::MethodNotAllowed { allow } => told(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "The method is not allowed here",
                format!("This resource can be asked for with {allow}."),
                "Use one of the methods in the header Allow.",
            ),
            Self::FinerThanKept { since } => told(
                StatusCode::UNPROCESSABLE_ENTITY,
                "finer-than-kept",
                "The steps are finer than what is kept",
                format!("Minutes are kept from {since} on."),
                "Ask with step=1h, or for a later window.",
            ),
            Self::Unavailable => later(
                "database-unavailable",
                "The database is not available",
                "Nothing was stored or read.",
                RETRY_SOON,
            ),
            Self::StorageFull => {
                later("storage-full", "The database has no room left", "Nothing was stored.", RETRY_LATER)
            }
            Self::TimedOut => {
                later("timed-out", "It took too long", "The database did not answer in time.", RETRY_SOON)
            }
            Self::CommitUnknown => later(
                "commit-unknown",
                "It is not known whether the records were stored",
                "The connection to the database was lost at the last moment.",
                RETRY_SOON,
            ),
            Self::NotStored => later(
                "not-stored",
                "The records could not be stored",
                "The service made a mistake, and nothing was stored. It has been logged.",
                RETRY_LATER,
            ),
            Self::Internal => told(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "The service made a mistake",
                "The mistake has been logged.".to_owned(),
                "Ask the operator of the service to look at its log.",
            ),
        }
    }

    pub(super) fn response(&self) -> HttpResponse {
        let told = self.told();
        let mut response = HttpResponse::build(told.status);
        response.content_type("application/problem+json");
        if let Some(seconds) = told.retry_after {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        match self {
            Self::MethodNotAllowed { allow } => {
                response.insert_header((header::ALLOW, *allow));
            }
            // RFC 6750, section 3: an error is named only where a token was given.
            Self::Unauthorized { presented } => {
                let challenge = if *presented {
                    "Bearer realm=\"endpoint-stats\", error=\"invalid_token\""
                } else {
                    "Bearer realm=\"endpoint-stats\""
                };
                response.insert_header((header::WWW_AUTHENTICATE, challenge));
            }
            Self::UnsupportedEncoding => {
                response.insert_header((header::ACCEPT_ENCODING, "gzip, zstd"));
            }
            // What is left of the body is not read, so the connection cannot serve another request.
            Self::BodyTooLarge { .. } | Self::BodyTooSlow { .. } | Self::QueueFull | Self::NoRoom => {
                response.force_close();
            }
            _ => {}
        }
        response.json(told.problem())
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.told().title)
    }
}

impl actix_web::ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.told().status
    }

    fn error_response(&self) -> HttpResponse {
        self.response()
    }
}

impl From<InvalidBody> for ApiError {
    fn from(error: InvalidBody) -> Self {
        Self::InvalidBody(error)
    }
}

impl From<IngestError> for ApiError {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::QueueFull => Self::QueueFull,
            IngestError::Stopping => Self::Stopping,
            IngestError::KeyReused => Self::KeyReused,
            IngestError::Flush(FlushFailure::Unavailable) => Self::Unavailable,
            IngestError::Flush(FlushFailure::KeyHeld) => Self::KeyHeld,
            IngestError::Flush(FlushFailure::StorageFull) => Self::StorageFull,
            IngestError::Flush(FlushFailure::TimedOut) => Self::TimedOut,
            IngestError::Flush(FlushFailure::CommitUnknown) => Self::CommitUnknown,
            // Never 500: what was not stored may be sent again, and clients do not send again after a 500.
            IngestError::Flush(FlushFailure::Unexpected) => Self::NotStored,
        }
    }
}

impl From<Arc<StatsError>> for ApiError {
    fn from(error: Arc<StatsError>) -> Self {
        match &*error {
            StatsError::NoSuchEndpoint => Self::NoSuchEndpoint,
            StatsError::InvalidWindow(reason @ (InvalidWindow::Empty | InvalidWindow::TooLong)) => {
                Self::parameter("to", reason.to_string())
            }
            StatsError::InvalidWindow(reason) => Self::parameter("window", reason.to_string()),
            StatsError::FinerThanKept(since) => {
                Self::FinerThanKept { since: since.to_rfc3339_opts(chrono::SecondsFormat::Secs, true) }
            }
            StatsError::TooManySteps(steps) => {
                Self::parameter("step", format!("would give {steps} points; ask for longer steps or a shorter window"))
            }
            StatsError::Store(error) => match error {
                StoreError::Unavailable(_)
                | StoreError::Contended
                | StoreError::KeyHeld
                | StoreError::CommitUnknown => Self::Unavailable,
                StoreError::StorageFull(_) => Self::StorageFull,
                StoreError::TimedOut => Self::TimedOut,
                StoreError::Unexpected(_) => Self::Internal,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use actix_web::body::MessageBody as _;
    use serde_json::Value;

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
            (ApiError::MethodNotAllowed { allow: "GET, HEAD" }, 405, "method-not-allowed", None),
            (ApiError::FinerThanKept { since: "2026-11-19T10:00:00Z".to_owned() }, 422, "finer-than-kept", None),
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
            let said: Vec<String> =
                response.headers().iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
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
        let (_, variants) = include_str!("error.rs").split_once("enum ApiError {").unwrap();
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
}
