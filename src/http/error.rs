//! What goes wrong, as a client sees it: `application/problem+json` (RFC 9457). The one place that picks a status.
//!
//! The texts are for the person who sent the request. What Postgres or Redis said is for the log.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{InvalidWindow, OffTheHour, Scope};
use crate::ingest::{FlushFailure, IngestError, InvalidBody};
use crate::jobs::Job;
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
    NoSuchJob,
    JobRunning,
    MethodNotAllowed { allow: &'static str },
    FinerThanKept { since: String },
    OffTheHour(OffTheHour),
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
                match wanted {
                    Scope::Admin => "This resource needs a key of the scope admin.".to_owned(),
                    _ => format!("This resource needs a key of the scope {} or admin.", wanted.name()),
                },
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
            Self::NoSuchJob => told(
                StatusCode::NOT_FOUND,
                "no-such-job",
                "There is no such job",
                format!("The jobs are {}.", Job::ALL.map(Job::name).join(", ")),
                "Take one of these names.",
            ),
            Self::JobRunning => Told {
                status: StatusCode::CONFLICT,
                suggestion: "Look at /api/v1/jobs how it goes; to run it once more, ask again after the seconds in Retry-After.",
                ..later(
                    "job-already-running",
                    "The job is running already",
                    "A job runs once at a time, whichever replica runs it. Nothing was begun.",
                    RETRY_SOON,
                )
            },
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
            Self::OffTheHour(OffTheHour { zone, day, begins }) => told(
                StatusCode::UNPROCESSABLE_ENTITY,
                "time-zone-off-the-hour",
                "Days of this time zone do not begin on a full hour",
                format!(
                    "Days are made of whole hours of UTC, the finest step that is kept for long. In {} the day {day} begins \
                     inside one, at {}.",
                    zone.name(),
                    instant(begins),
                ),
                "Ask with a neighbouring time zone that is on the full hour, or with UTC; or leave out tz and say from and to \
                 as instants, such as 2026-11-21T00:00:00+05:30.",
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

/// As clients read it.
fn instant(instant: &DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Secs, true)
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
            StatsError::FinerThanKept(since) => Self::FinerThanKept { since: instant(since) },
            StatsError::OffTheHour(error) => Self::OffTheHour(*error),
            StatsError::TooManySteps(steps) => {
                Self::parameter("step", format!("would give {steps} points; ask for longer steps or a shorter window"))
            }
            StatsError::Store(error) => error.into(),
        }
    }
}

impl From<&StoreError> for ApiError {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::Contended | StoreError::KeyHeld | StoreError::CommitUnknown => {
                Self::Unavailable
            }
            StoreError::StorageFull(_) => Self::StorageFull,
            StoreError::TimedOut => Self::TimedOut,
            StoreError::Unexpected(_) => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests;
