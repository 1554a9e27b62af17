//! Limits on what one client may ask, as it sees them.
//!
//! Every answer of a limited route tells the client where it stands, in the fields of draft-ietf-httpapi-ratelimit-headers-10:
//! `RateLimit-Policy: "read";q=2000;w=2` is the quota, 2,000 requests that come back within 2 seconds, and
//! `RateLimit: "read";r=1990;t=1` says that 1,990 more would be admitted now, and at least one more than that in a second.
//! Over the quota the answer is 429, with `Retry-After`, before anything of the body is read.

use actix_web::body::BoxBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderName;
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpRequest, HttpResponse};

use super::error::ApiError;
use super::text::Text;
use super::unread::refuse;
use super::{App, address};
use crate::auth::Caller;
use crate::domain::Decision;
use crate::limits::{Client, Kind};

/// Lets a request of `caller` through, or, where nobody has a key, of whoever comes from its address, if its client may send
/// it, and answers the others.
pub(super) async fn keep(
    kind: Kind,
    caller: Option<Caller>,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    // Present wherever there are routes: `serve` puts it there.
    let Some(app) = request.app_data::<Data<App>>() else { return Err(ApiError::Internal.into()) };
    let Some(decision) = app.limits.check(&client(app, caller, request.request()), kind) else {
        return next.call(request).await;
    };
    let mut response = if decision.admitted {
        next.call(request).await?
    } else {
        let (request, payload) = request.into_parts();
        ServiceResponse::new(request, refused(&decision, payload))
    };
    tell(response.response_mut(), kind, &decision);
    Ok(response)
}

/// Counts a failed attempt to present a key.
///
/// # Errors
/// The answer in place of 401, if its address has had too many.
pub(super) fn failed(app: &App, request: &HttpRequest) -> Result<(), ApiError> {
    let client = Client::address(address::of(request, &app.trusted_proxies));
    match app.limits.check(&client, Kind::Failure) {
        Some(decision) if !decision.admitted => Err(too_many(&decision)),
        _ => Ok(()),
    }
}

/// Whose request it is, as far as limits go: the holder of a key, or whoever comes from the same address.
fn client(app: &App, caller: Option<Caller>, request: &HttpRequest) -> Client {
    match caller {
        Some(caller) => Client::key(caller.id),
        None => Client::address(address::of(request, &app.trusted_proxies)),
    }
}

fn too_many(decision: &Decision) -> ApiError {
    ApiError::RateLimited { retry_after: decision.one_more_in_seconds() }
}

fn refused(decision: &Decision, payload: Payload) -> HttpResponse {
    // A connection is worth keeping, unless a body is on its way that nobody will read.
    let keeps = matches!(payload, Payload::None);
    let mut response = refuse(&too_many(decision), payload);
    if !keeps {
        response.head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
    }
    response
}

fn tell(response: &mut HttpResponse, kind: Kind, decision: &Decision) {
    let (name, quota) = (kind.name(), decision.quota);
    let mut text = Text::default();
    text.and("\"").and(name).and("\";q=").and_number(quota.burst().into());
    let policy = text.and(";w=").and_number(quota.burst_seconds().into()).value();
    text.and("\"").and(name).and("\";r=").and_number(decision.remaining.into());
    let left = text.and(";t=").and_number(decision.one_more_in_seconds().into()).value();
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("ratelimit-policy"), policy);
    headers.insert(HeaderName::from_static("ratelimit"), left);
}
