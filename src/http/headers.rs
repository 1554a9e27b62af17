//! The headers of every answer, written in one place.
//!
//! A handler says what its answer is by putting a [`Keep`] into the response's extensions; nothing there means that nobody may
//! keep it, so an error is never cached by mistake. This middleware makes of it `Cache-Control`, `ETag`, `Age`, `Vary`,
//! `X-Cache` and `Server-Timing`, answers 304 to who has it already, and adds what every answer carries: the request's id
//! and the headers that tell a browser to take no liberties.

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix_web::body::{self, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::Data;
use tracing::Instrument as _;

use super::App;
use crate::domain::Fingerprint;
use crate::stats::CacheState;

/// The longest id of a request that is taken over from its client.
const REQUEST_ID_MAX_BYTES: usize = 64;

/// What a browser may do with an answer that says nothing else of it: nothing.
const CLOSED_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// RFC 9111 has retired `Warning`; where it is still read, this is its word for an answer out of date.
const STALE_WARNING: &str = "110 - \"Response is Stale\"";

/// How an answer may be kept.
#[derive(Debug, Clone)]
pub(super) enum Keep {
    /// An answer to a question.
    Answer {
        /// Identifies what it says.
        etag: Fingerprint,
        /// How long it is good from when it was made.
        max_age: Duration,
        /// How long ago that was.
        age: Duration,
        /// Where it came from.
        cache: CacheState,
        /// How long it took to find or make.
        took: Duration,
    },
    /// Something that changes only with the program.
    Asset {
        /// Identifies it.
        etag: Fingerprint,
    },
}

/// How long a page or a description may be kept before it is asked for again: a new version shows soon.
const ASSET_MAX_AGE: Duration = Duration::from_secs(300);

/// Writes them.
pub(super) async fn write(
    app: Data<App>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let began = Instant::now();
    let id = request_id(request.headers());
    let if_none_match: Vec<HeaderValue> = request.headers().get_all(header::IF_NONE_MATCH).cloned().collect();

    // What is logged on behalf of a request carries its id.
    let span = tracing::info_span!("request", id = %id.to_str().unwrap_or_default());
    let response = next.call(request).instrument(span).await?;
    let mut response = response.map_into_boxed_body();

    let keep = response.response().extensions().get::<Keep>().cloned();
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("x-request-id"), id);
    closed(headers);
    if app.tls {
        // A year. Names below this one are somebody else's business.
        set(headers, header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
    let mut timing = String::new();
    let unchanged = match keep {
        None => {
            if !headers.contains_key(header::CACHE_CONTROL) {
                set(headers, header::CACHE_CONTROL, "no-store");
            }
            false
        }
        Some(Keep::Asset { etag }) => {
            set(headers, header::CACHE_CONTROL, &format!("public, max-age={}", ASSET_MAX_AGE.as_secs()));
            set(headers, header::VARY, "Accept-Encoding");
            tagged(headers, etag, &if_none_match)
        }
        Some(Keep::Answer { etag, max_age, age, cache, took }) => {
            let who = if app.is_private() { "private" } else { "public" };
            let (state, how) = match cache {
                CacheState::Hit => ("hit", format!("{who}, max-age={}", max_age.as_secs())),
                CacheState::Miss => ("miss", format!("{who}, max-age={}", max_age.as_secs())),
                // To be shown, and asked for again the next time.
                CacheState::Stale => ("stale", format!("{who}, no-cache")),
            };
            set(headers, header::CACHE_CONTROL, &how);
            set(headers, header::AGE, &age.as_secs().to_string());
            // Origin: should another site ever be let in, what was kept for this one must not be handed to it.
            let vary =
                if app.is_private() { "Accept-Encoding, Authorization, Origin" } else { "Accept-Encoding, Origin" };
            set(headers, header::VARY, vary);
            set(headers, HeaderName::from_static("x-cache"), state);
            if cache == CacheState::Stale {
                set(headers, header::WARNING, STALE_WARNING);
            }
            let _ = write!(timing, "cache;desc={state}, answer;dur={:.3}, ", millis(took));
            tagged(headers, etag, &if_none_match)
        }
    };
    let _ = write!(timing, "total;dur={:.3}", millis(began.elapsed()));
    set(headers, HeaderName::from_static("server-timing"), &timing);
    if unchanged && response.status() == StatusCode::OK {
        response = response.map_body(|head, _| {
            head.status = StatusCode::NOT_MODIFIED;
            for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING] {
                head.headers.remove(name);
            }
            // None, not an empty one: over HTTP/2 that would be told as `Content-Length: 0`, which is what the 200 had not.
            BoxBody::new(body::None::new())
        });
    }
    Ok(response)
}

/// No sniffing, no framing, no referrer, no use by other sites; no scripts unless the page brought a policy of its own.
fn closed(headers: &mut HeaderMap) {
    set(headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(headers, header::X_FRAME_OPTIONS, "DENY");
    set(headers, header::REFERRER_POLICY, "no-referrer");
    set(headers, header::CROSS_ORIGIN_RESOURCE_POLICY, "same-origin");
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        set(headers, header::CONTENT_SECURITY_POLICY, CLOSED_POLICY);
    }
}

/// Writes the tag; whether the client has what it names.
fn tagged(headers: &mut HeaderMap, etag: Fingerprint, if_none_match: &[HeaderValue]) -> bool {
    // Weak: a hit and a miss, compressed or not, say the same and differ in their bytes.
    let etag = format!("W/\"{etag}\"");
    let unchanged = if_none_match.iter().any(|value| names(value, &etag));
    set(headers, header::ETAG, &etag);
    unchanged
}

/// Whether an `If-None-Match` names `etag`, by weak comparison (RFC 9110, section 13.1.2).
fn names(value: &HeaderValue, etag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let wanted = opaque(etag);
    value.to_str().is_ok_and(|value| value.split(',').any(|tag| tag.trim() == "*" || opaque(tag) == wanted))
}

/// The client's own id of the request, if it is one that can go anywhere, or a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    /// Different in each process and at each start.
    static PROCESS: LazyLock<u32> = LazyLock::new(|| getrandom::u32().unwrap_or_else(|_| std::process::id()));
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let harmless = |id: &&HeaderValue| {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        (1..=REQUEST_ID_MAX_BYTES).contains(&id.len()) && id.as_bytes().iter().all(allowed)
    };
    headers.get("x-request-id").filter(harmless).cloned().unwrap_or_else(|| {
        let id = format!("{:08x}-{:x}", *PROCESS, NEXT.fetch_add(1, Ordering::Relaxed));
        value(&id)
    })
}

fn set(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    headers.insert(name, value(text));
}

fn value(text: &str) -> HeaderValue {
    // Fails only for control characters; the texts are our own.
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

fn millis(length: Duration) -> f64 {
    length.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_over_only_if_it_can_go_anywhere() {
        let id = |theirs: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static("x-request-id"), HeaderValue::from_str(theirs).unwrap());
            request_id(&headers) == theirs
        };
        assert!(id("a") && id("4bf92f35-77b3.4da6_a3ce") && id(&"x".repeat(64)));
        assert!(!id("") && !id(&"x".repeat(65)) && !id("a b") && !id("<script>") && !id("a\"b"));
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }

    #[test]
    fn a_tag_is_found_in_any_list() {
        let named = |list: &str| names(&HeaderValue::from_str(list).unwrap(), "W/\"abc\"");
        assert!(named("W/\"abc\"") && named("\"abc\"") && named("*") && named("\"x\", W/\"abc\"") && named("\"x\",*"));
        assert!(!named("") && !named("abc") && !named("\"ABC\"") && !named("\"abcd\"") && !named("W/\"ab\""));
        let forged: Vec<String> = (0..1_000).map(|n| format!("\"{n}\"")).collect();
        assert!(!named(&forged.join(", ")));
    }
}
