//! `GET` of answers: a query string becomes a question, an answer becomes a response.

use std::time::Duration;

use actix_web::http::header::{self, HeaderValue};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use super::App;
use super::error::ApiError;
use super::params::{Params, endpoint_id};
use crate::domain::{Order, Step};
use crate::stats::{
    Answered, CacheState, DailyQuery, EndpointQuery, Format, OverviewQuery, Question, RankingQuery, RequestsQuery,
    SeriesQuery,
};
use crate::store::RawOrder;

/// How long a question may take in all.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn top(app: Data<App>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let mut params = Params::of(&request)?;
    let query = RankingQuery {
        by: params.one_of("by", &Order::ALL.map(|order| (order.name(), order)))?.unwrap_or(Order::Requests),
        window: params.window("24h")?,
        limit: params.limit(1_000, 10)?,
        filter: params.filter()?,
        min_requests: params.number("min_requests", 0..=u64::from(u32::MAX))?.unwrap_or(0),
        compare_previous: params.one_of("compare", &[("previous", true)])?.unwrap_or(false),
    };
    let format = params.format()?;
    params.finish()?;
    answer(app, &request, Question::Ranking(query, format)).await
}

pub(super) async fn overview(app: Data<App>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let mut params = Params::of(&request)?;
    let query = OverviewQuery { window: params.window("24h")?, filter: params.filter()? };
    params.finish()?;
    answer(app, &request, Question::Overview(query)).await
}

pub(super) async fn daily(app: Data<App>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let mut params = Params::of(&request)?;
    let query = DailyQuery {
        window: params.window("30d")?,
        filter: crate::store::EndpointFilter {
            id: params.number("endpoint_id", 1..=i32::MAX)?.map(crate::domain::EndpointId),
            ..params.filter()?
        },
        limit: params.limit(10_000, 1_000)?,
    };
    let format = params.format()?;
    params.finish()?;
    answer(app, &request, Question::Daily(query, format)).await
}

pub(super) async fn endpoint(app: Data<App>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let id = endpoint_id(&request)?;
    let mut params = Params::of(&request)?;
    let query = EndpointQuery { id, window: params.window("24h")? };
    params.finish()?;
    answer(app, &request, Question::Endpoint(query)).await
}

pub(super) async fn series(app: Data<App>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let id = endpoint_id(&request)?;
    let mut params = Params::of(&request)?;
    let query = SeriesQuery {
        id,
        window: params.window("24h")?,
        step: params.one_of("step", &Step::ALL.map(|step| (step.name(), step)))?,
    };
    params.finish()?;
    answer(app, &request, Question::Series(query)).await
}

pub(super) async fn requests(app: Data<App>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let id = endpoint_id(&request)?;
    let mut params = Params::of(&request)?;
    let orders = [("newest", RawOrder::Newest), ("slowest", RawOrder::Slowest), ("failed", RawOrder::Failed)];
    let query = RequestsQuery {
        id,
        window: params.window("1h")?,
        by: params.one_of("by", &orders)?.unwrap_or(RawOrder::Newest),
        limit: params.limit(1_000, 100)?,
    };
    params.finish()?;
    answer(app, &request, Question::Requests(query)).await
}

async fn answer(app: Data<App>, request: &HttpRequest, question: Question) -> Result<HttpResponse, ApiError> {
    let anew = asks_for_new(request);
    let format = question.format();
    let stats = app.stats.clone();
    let answered =
        app.on_main(ApiError::Internal, async move {
            tokio::time::timeout(ANSWERED_WITHIN, stats.ask(&question, anew)).await
        })
        .await?
        .map_err(|_| {
            tracing::error!("a question was not answered in time");
            ApiError::TimedOut
        })??;
    Ok(respond(&app, request, format, &answered))
}

/// Writes the headers of every answer; the one place that does.
fn respond(app: &App, request: &HttpRequest, format: Format, answered: &Answered) -> HttpResponse {
    // Weak: a hit and a miss say the same of the endpoints and differ in the word that tells them apart.
    let etag = format!("W/\"{}\"", answered.fingerprint);
    let unchanged = request.headers().get_all(header::IF_NONE_MATCH).any(|value| matches(value, &etag));

    let mut response = if unchanged { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    let max_age = app.stats.lifetimes().shared(answered.freshness).as_secs();
    let age = (app.stats.now() - answered.made_at).num_seconds().max(0);
    // What only some may read is kept by their own browsers, not by caches on the way.
    let (kept_by, differs_by) =
        if app.is_private() { ("private", "Authorization, Accept-Encoding") } else { ("public", "Accept-Encoding") };
    response
        .insert_header((header::CACHE_CONTROL, format!("{kept_by}, max-age={max_age}")))
        .insert_header((header::ETAG, etag))
        .insert_header((header::AGE, age.to_string()))
        .insert_header((header::VARY, differs_by))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header(("X-Cache", if answered.cache == CacheState::Hit { "hit" } else { "miss" }));
    if unchanged {
        return response.finish();
    }
    match format {
        Format::Json => response.content_type("application/json"),
        Format::Csv => response.content_type("text/csv; charset=utf-8"),
    };
    response.body(answered.body.clone())
}

/// Whether the client wants the present state, not one that was true a while ago.
fn asks_for_new(request: &HttpRequest) -> bool {
    request
        .headers()
        .get_all(header::CACHE_CONTROL)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|directive| directive.trim().eq_ignore_ascii_case("no-cache"))
}

/// Whether an `If-None-Match` names `etag`, by weak comparison (RFC 9110, section 13.1.2).
fn matches(value: &HeaderValue, etag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let wanted = opaque(etag);
    value.to_str().is_ok_and(|value| value.split(',').any(|tag| tag.trim() == "*" || opaque(tag) == wanted))
}
