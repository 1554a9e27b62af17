//! The headers of every answer, written in one place.
//!
//! A handler says what its answer is by putting a [`Keep`] into the response's extensions; nothing there means that nobody may
//! keep it, so an error is never cached by mistake. This middleware makes of it `Cache-Control`, `ETag`, `Age`, `Vary`,
//! `X-Cache` and `Server-Timing`, answers 304 to who has it already, and adds what every answer carries: the request's id
//! and the headers that tell a browser to take no liberties.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix_web::HttpRequest;
use actix_web::body::{self, BoxBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use tracing::Span;

use super::text::Text;
use crate::domain::Fingerprint;
use crate::stats::CacheState;

/// The longest id of a request that is taken over from its client.
const REQUEST_ID_MAX_BYTES: usize = 64;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

static NO_SNIFFING: HeaderValue = HeaderValue::from_static("nosniff");
static NO_FRAMING: HeaderValue = HeaderValue::from_static("DENY");
static NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");
static SAME_ORIGIN: HeaderValue = HeaderValue::from_static("same-origin");
static NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
static HIT: HeaderValue = HeaderValue::from_static("hit");
static MISS: HeaderValue = HeaderValue::from_static("miss");
static STALE: HeaderValue = HeaderValue::from_static("stale");

/// What a browser may do with an answer that says nothing else of it: nothing.
static CLOSED_POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// A year. Names below this one are somebody else's business.
static TLS_ONLY: HeaderValue = HeaderValue::from_static("max-age=31536000");

static VARY_ASSET: HeaderValue = HeaderValue::from_static("Accept-Encoding");
/// Origin: should another site ever be let in, what was kept for this one must not be handed to it.
static VARY_PUBLIC: HeaderValue = HeaderValue::from_static("Accept-Encoding, Origin");
static VARY_PRIVATE: HeaderValue = HeaderValue::from_static("Accept-Encoding, Authorization, Origin");

/// RFC 9111 has retired `Warning`; where it is still read, this is its word for an answer out of date.
static STALE_WARNING: HeaderValue = HeaderValue::from_static("110 - \"Response is Stale\"");

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

/// Headers of an answer: what is known of them before there is one.
#[derive(Debug)]
pub(super) struct Headers {
    site: Site,
    began: Instant,
    id: HeaderValue,
}

/// What the headers of all answers depend on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site {
    /// Whether answers are for those only who hold a key.
    pub(super) is_private: bool,
    /// Whether clients speak TLS to this service.
    pub(super) tls: bool,
}

impl Headers {
    /// Of the answer to `request`, which has just arrived. It carries its id from now on: the client's own, or a new one.
    pub(super) fn begin(site: Site, request: &mut ServiceRequest) -> Self {
        let began = Instant::now();
        let id = match own_id(request.headers()) {
            Some(own) => own.clone(),
            None => {
                let id = new_id();
                request.headers_mut().insert(REQUEST_ID, id.clone());
                id
            }
        };
        Self { site, began, id }
    }

    /// Writes them.
    pub(super) fn write(self, mut response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
        let keep = response.response().extensions().get::<Keep>().cloned();
        let headers = response.response_mut().headers_mut();
        headers.insert(REQUEST_ID, self.id);
        closed(headers);
        if self.site.tls {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, TLS_ONLY.clone());
        }
        let mut text = Text::default();
        let etag = match keep {
            None => {
                if !headers.contains_key(header::CACHE_CONTROL) {
                    headers.insert(header::CACHE_CONTROL, NO_STORE.clone());
                }
                None
            }
            Some(Keep::Asset { etag }) => {
                let kept = text.and("public, max-age=").and_number(ASSET_MAX_AGE.as_secs()).value();
                headers.insert(header::CACHE_CONTROL, kept);
                headers.insert(header::VARY, VARY_ASSET.clone());
                Some(etag)
            }
            Some(Keep::Answer { etag, max_age, age, cache, took }) => {
                let (who, vary) =
                    if self.site.is_private { ("private", &VARY_PRIVATE) } else { ("public", &VARY_PUBLIC) };
                let (state, name) = match cache {
                    CacheState::Hit => (&HIT, "hit"),
                    CacheState::Miss => (&MISS, "miss"),
                    CacheState::Stale => (&STALE, "stale"),
                };
                text.and(who);
                if cache == CacheState::Stale {
                    // To be shown, and asked for again the next time.
                    headers.insert(header::CACHE_CONTROL, text.and(", no-cache").value());
                    headers.insert(header::WARNING, STALE_WARNING.clone());
                } else {
                    let kept = text.and(", max-age=").and_number(max_age.as_secs()).value();
                    headers.insert(header::CACHE_CONTROL, kept);
                }
                headers.insert(header::AGE, text.and_number(age.as_secs()).value());
                headers.insert(header::VARY, vary.clone());
                headers.insert(X_CACHE, state.clone());
                text.and("cache;desc=").and(name).and(", answer;dur=").and_millis(took).and(", ");
                Some(etag)
            }
        };
        headers.insert(SERVER_TIMING, text.and("total;dur=").and_millis(self.began.elapsed()).value());
        let Some(etag) = etag else { return response };
        // Weak: a hit and a miss, compressed or not, say the same and differ in their bytes.
        let etag = text.and("W/\"").and_hex(etag.half()).and("\"").value();
        headers.insert(header::ETAG, etag.clone());
        if response.status() != StatusCode::OK || !is_named(&etag, response.request().headers()) {
            return response;
        }
        response.map_body(|head, _| {
            head.status = StatusCode::NOT_MODIFIED;
            for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING] {
                head.headers.remove(name);
            }
            // None, not an empty one: over HTTP/2 that would be told as `Content-Length: 0`, which is what the 200 had not.
            BoxBody::new(body::None::new())
        })
    }
}

/// What is logged within it carries the id of `request`. An answer that is at hand is told without: a span costs more than
/// all else that is done for it.
pub(super) fn span(request: &HttpRequest) -> Span {
    let id = own_id(request.headers()).and_then(|id| id.to_str().ok()).unwrap_or_default();
    tracing::info_span!("request", id = %id)
}

/// No sniffing, no framing, no referrer, no use by other sites; no scripts unless the page brought a policy of its own.
fn closed(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFFING.clone());
    headers.insert(header::X_FRAME_OPTIONS, NO_FRAMING.clone());
    headers.insert(header::REFERRER_POLICY, NO_REFERRER.clone());
    headers.insert(header::CROSS_ORIGIN_RESOURCE_POLICY, SAME_ORIGIN.clone());
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, CLOSED_POLICY.clone());
    }
}

/// Whether the client has what `etag` names.
fn is_named(etag: &HeaderValue, by: &HeaderMap) -> bool {
    let mut lists = by.get_all(header::IF_NONE_MATCH).peekable();
    lists.peek().is_some() && etag.to_str().is_ok_and(|etag| lists.any(|list| names(list, etag)))
}

/// Whether an `If-None-Match` names `etag`, by weak comparison (RFC 9110, section 13.1.2).
fn names(value: &HeaderValue, etag: &str) -> bool {
    fn opaque(tag: &str) -> &str {
        tag.trim().trim_start_matches("W/")
    }
    value.to_str().is_ok_and(|value| value.split(',').any(|tag| tag.trim() == "*" || opaque(tag) == opaque(etag)))
}

/// The client's own id of the request, if it is one that can go anywhere; or the one it was given here.
fn own_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let harmless =
        |id: &&HeaderValue| (1..=REQUEST_ID_MAX_BYTES).contains(&id.len()) && id.as_bytes().iter().all(allowed);
    headers.get(REQUEST_ID).filter(harmless)
}

/// Another one each time.
fn new_id() -> HeaderValue {
    /// Different in each process and at each start.
    static PROCESS: LazyLock<u32> = LazyLock::new(|| getrandom::u32().unwrap_or_else(|_| std::process::id()));
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let significant = number.iter().position(|byte| *byte != 0).unwrap_or(number.len() - 1);
    Text::default().and_hex(&PROCESS.to_be_bytes()).and("-").and_hex(&number[significant..]).value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_over_only_if_it_can_go_anywhere() {
        let id = |theirs: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(theirs).unwrap());
            own_id(&headers).is_some_and(|id| id == theirs)
        };
        assert!(id("a") && id("4bf92f35-77b3.4da6_a3ce") && id(&"x".repeat(64)));
        assert!(!id("") && !id(&"x".repeat(65)) && !id("a b") && !id("<script>") && !id("a\"b"));
    }

    #[test]
    fn a_new_id_is_another_one_each_time_and_can_go_anywhere() {
        let ids: Vec<HeaderValue> = (0..1_000).map(|_| new_id()).collect();
        assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), ids.len());
        for id in ids {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, id.clone());
            assert_eq!(own_id(&headers), Some(&id));
        }
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
