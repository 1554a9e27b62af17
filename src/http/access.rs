//! Who may ask what: a tier of the table of routes lets a request in, or answers it itself.
//!
//! A refused request is answered before anything of its body is read. What was presented as a key is never logged and never
//! repeated in an answer.

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpRequest};

use super::error::ApiError;
use super::unread::refuse;
use super::{App, limits};
use crate::auth::{Caller, Refusal};
use crate::domain::{KeyPrefix, Scope};
use crate::limits::Kind;

/// Parameters that other services take keys by.
const KEY_PARAMETERS: [&str; 9] =
    ["key", "api_key", "apikey", "api-key", "token", "access_token", "auth", "authorization", "bearer"];

/// Lets those in whose key allows `wanted`, and, where no keys are asked for, anybody; as often as the limit on what is of
/// `kind` lets them.
pub(super) async fn need(
    wanted: Scope,
    kind: Kind,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    match admit(wanted, request.request()).await {
        Ok(caller) => limits::keep(kind, caller, request, next).await,
        Err(error) => {
            let (request, payload) = request.into_parts();
            let response = refuse(&error, payload);
            Ok(ServiceResponse::new(request, response))
        }
    }
}

async fn admit(wanted: Scope, request: &HttpRequest) -> Result<Option<Caller>, ApiError> {
    // Present wherever there are routes: `serve` puts it there.
    let app = request.app_data::<Data<App>>().ok_or(ApiError::Internal)?;
    let Some(keys) = &app.keys else { return Ok(None) };
    if has_key_in_query(request.query_string()) {
        return Err(ApiError::KeyInUrl);
    }
    let Some(presented) = presented(request)? else { return Err(unauthorized(app, request, false)) };
    let caller = keys.check(presented).await.map_err(|refusal| match refusal {
        Refusal::Invalid => unauthorized(app, request, true),
        Refusal::Unavailable => ApiError::Unavailable,
    })?;
    if caller.scope.allows(wanted) { Ok(Some(caller)) } else { Err(ApiError::Forbidden { wanted }) }
}

/// The refusal, or another where this address has had too many of them. A key that holds is never in the way of that.
fn unauthorized(app: &App, request: &HttpRequest, presented: bool) -> ApiError {
    limits::failed(app, request).err().unwrap_or(ApiError::Unauthorized { presented })
}

/// What stands behind `Bearer` in the header Authorization; `None` if there is no such header or it has another scheme.
fn presented(request: &HttpRequest) -> Result<Option<&str>, ApiError> {
    let mut values = request.headers().get_all(header::AUTHORIZATION);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::TwoAuthorizations);
    }
    // A header that is not ASCII holds no key, whatever its scheme.
    let value = value.to_str().unwrap_or("Bearer ?");
    let (scheme, token) = value.trim().split_once(' ').unwrap_or_default();
    Ok(scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim()))
}

/// Whether a query string holds a key, or a parameter that is meant for one. Addresses are kept in histories and in the logs
/// of every proxy on the way, so such a key is no secret any more.
fn has_key_in_query(query: &str) -> bool {
    may_hold_key(query) && holds_key(query)
}

/// Whether a query holds what all keys and parameters for keys hold, or what they could be hidden behind: quickly, and `true`
/// for some that are harmless. Nearly all are told by this alone.
fn may_hold_key(query: &str) -> bool {
    let bytes = query.as_bytes();
    let follows = |at: usize, text: &str| {
        bytes.get(at..at + text.len()).is_some_and(|there| there.eq_ignore_ascii_case(text.as_bytes()))
    };
    bytes.iter().enumerate().any(|(at, byte)| match byte.to_ascii_lowercase() {
        // The two ways to write a character as another.
        b'%' | b'+' => true,
        b'e' => follows(at, "es_"),
        b'k' => follows(at, "key"),
        b't' => follows(at, "token"),
        b'a' => follows(at, "auth"),
        b'b' => follows(at, "bearer"),
        _ => false,
    })
}

fn holds_key(query: &str) -> bool {
    url::form_urlencoded::parse(query.as_bytes()).any(|(name, value)| {
        KEY_PARAMETERS.iter().any(|parameter| name.eq_ignore_ascii_case(parameter))
            || [name, value].iter().any(|text| KeyPrefix::at_start_of(text.trim()).is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Queries of pieces that keys are made of, and of what stands around them.
    fn queries() -> impl Strategy<Value = String> {
        let pieces = KEY_PARAMETERS.into_iter().chain([
            "es_",
            "es_abcdefgh_",
            "ES_",
            "&",
            "=",
            "+",
            "%",
            "%65",
            "%5F",
            "%6bey",
            " ",
            "\u{a0}",
            "KEY",
            "Token",
            "b",
            "e",
            "window",
            "ü",
        ]);
        prop::collection::vec(prop::sample::select(pieces.collect::<Vec<_>>()), 0..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn what_is_told_quickly_is_true(query in prop_oneof![queries(), any::<String>()]) {
            prop_assert_eq!(has_key_in_query(&query), holds_key(&query));
        }
    }

    #[test]
    fn every_parameter_for_a_key_is_looked_at_closely() {
        assert!(KEY_PARAMETERS.iter().all(|parameter| may_hold_key(&parameter.to_uppercase())));
        assert!(
            ["", "by=p95&window=30d", "limit=10&service=shop&sort=errors"].iter().all(|query| !may_hold_key(query))
        );
    }

    #[test]
    fn a_key_in_a_query_is_found_however_it_is_written() {
        for query in [
            "key=x",
            "API_KEY=",
            "window=1h&access_token=x",
            "service=es_abcdefgh_secret",
            "route=%65s_abcdefgh_secret",
            "service=+es_abcdefgh_secret",
            "es_abcdefgh_secret",
        ] {
            assert!(has_key_in_query(query), "{query}");
        }
        for query in ["", "service=es_search", "route=/es_/keys", "by=p95&window=1h", "service=monkey"] {
            assert!(!has_key_in_query(query), "{query}");
        }
    }
}
