//! `POST` of records.

use actix_web::web::{self, Data, Payload};
use actix_web::{HttpRequest, HttpResponse};

use super::App;
use super::body::{self, BodyType};
use super::error::ApiError;
use super::params::Params;
use super::unread::refuse;
use crate::domain::Fingerprint;
use crate::ingest::{IdempotencyKey, read_json, read_ndjson};

/// Bodies over this are parsed on a thread of their own, so that other requests of this worker do not wait for it.
const PARSED_IN_PLACE_BYTES: usize = 64 * 1024;

/// The longest idempotency key.
const KEY_MAX_BYTES: usize = 255;

pub(super) async fn ingest(app: Data<App>, request: HttpRequest, mut payload: Payload) -> HttpResponse {
    match take(&app, &request, &mut payload).await {
        Ok(answer) => answer,
        Err(error) => refuse(&error, payload.into_inner()),
    }
}

async fn take(app: &App, request: &HttpRequest, payload: &mut Payload) -> Result<HttpResponse, ApiError> {
    Params::of(request)?.finish()?;
    let body_type = BodyType::of(request)?;
    let key = idempotency_key(request)?;
    if app.ingest.is_full() {
        return Err(ApiError::QueueFull);
    }
    let body = body::read(request, payload, app.max_body_bytes).await?;

    let small = body.len() <= PARSED_IN_PLACE_BYTES;
    let accepted = app.ingest.accepted_times();
    let read = move || {
        let hash = key.is_some().then(|| Fingerprint::of(&body));
        let parsed = match body_type {
            BodyType::Json => read_json(&body, accepted),
            BodyType::Ndjson => read_ndjson(&body, accepted),
        };
        let key = key.zip(hash).map(|(key, body_hash)| IdempotencyKey { key, body_hash });
        parsed.map(|parsed| (parsed, key))
    };
    let (parsed, key) = if small {
        read()
    } else {
        web::block(read).await.map_err(|error| {
            tracing::error!(error = %error, "a body could not be read");
            ApiError::NotStored
        })?
    }?;

    let ingest = app.ingest.clone();
    // Goes on even if the client goes away: what was read is stored, and a retry with the same key finds it.
    let answer = app.on_main(ApiError::CommitUnknown, async move { ingest.submit(parsed, key).await }).await??;
    let mut response = if answer.all_rejected { HttpResponse::UnprocessableEntity() } else { HttpResponse::Ok() };
    response.content_type("application/json");
    if answer.replayed {
        response.insert_header(("Idempotency-Replayed", "true"));
    }
    Ok(response.body(answer.body))
}

fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, ApiError> {
    let mut values = request.headers().get_all("Idempotency-Key");
    let Some(value) = values.next() else { return Ok(None) };
    let visible =
        |key: &&str| (1..=KEY_MAX_BYTES).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    match value.to_str().ok().filter(visible) {
        Some(key) if values.next().is_none() => Ok(Some(key.to_owned())),
        _ => Err(ApiError::InvalidKey),
    }
}
