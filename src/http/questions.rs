//! `GET` of answers: a query string becomes a question, an answer becomes a response.

use std::time::Duration;

use actix_web::http::header::{self, HeaderValue};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use tracing::Instrument as _;

use super::App;
use super::encoding;
use super::error::ApiError;
use super::headers::{self, Keep};
use super::openapi::{parameters, responses};
use super::params::{Limit, Params, endpoint_id};
use super::understood::Understood;
use crate::domain::{Order, Step, Zone};
use crate::stats::{
    Answered, Asked, DailyAnswer, DailyQuery, EndpointAnswer, EndpointQuery, Format, OverviewAnswer, OverviewQuery,
    Question, RankingAnswer, RankingQuery, RequestsAnswer, RequestsQuery, SeriesAnswer, SeriesQuery,
};
use crate::store::RawOrder;

/// How long a question may take in all.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

static JSON: HeaderValue = HeaderValue::from_static("application/json");
static CSV: HeaderValue = HeaderValue::from_static("text/csv; charset=utf-8");

/// Rows of a ranking.
pub(super) const TOP_ROWS: Limit = Limit { most: 1_000, default: 10 };

/// Rows of days: a month of some hundred endpoints.
pub(super) const DAILY_ROWS: Limit = Limit { most: 10_000, default: 1_000 };

/// Raw requests at a time.
pub(super) const RAW_REQUESTS: Limit = Limit { most: 1_000, default: 100 };

/// What raw requests can be ordered by; the first is the usual order.
pub(super) const RAW_ORDERS: [(&str, RawOrder); 3] =
    [("newest", RawOrder::Newest), ("slowest", RawOrder::Slowest), ("failed", RawOrder::Failed)];

/// The windows of questions that do not say.
pub(super) const USUAL_WINDOW: &str = "24h";
pub(super) const DAILY_WINDOW: &str = "30d";
pub(super) const RAW_WINDOW: &str = "1h";

/// The top endpoints.
///
/// All endpoints that match are ranked over the whole window by one column, and the first `limit` of them are told. A
/// percentile of too few requests ranks behind all others. Ties break by `id`, so pages are stable. A window may be told in days
/// of the time zone `tz`.
#[utoipa::path(
    get,
    path = "/api/v1/endpoints/top",
    tag = "questions",
    operation_id = "topEndpoints",
    params(parameters::Top),
    responses(responses::Table<RankingAnswer>)
)]
pub(super) async fn top(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    answer(&request, ranking).await
}

fn ranking(request: &HttpRequest) -> Result<Question, ApiError> {
    let mut params = Params::of(request)?;
    let zone = params.zone()?;
    let query = RankingQuery {
        by: params.one_of("by", &Order::ALL.map(|order| (order.name(), order)))?.unwrap_or(Order::Requests),
        window: params.window(USUAL_WINDOW, zone)?,
        zone,
        limit: params.limit(TOP_ROWS)?,
        filter: params.filter()?,
        min_requests: params.number("min_requests", 0..=u64::from(u32::MAX))?.unwrap_or(0),
        compare_previous: params.one_of("compare", &[("previous", true)])?.unwrap_or(false),
    };
    let format = params.format()?;
    params.finish()?;
    Ok(Question::Ranking(query, format))
}

/// Totals over all endpoints, and by service.
#[utoipa::path(
    get,
    path = "/api/v1/overview",
    tag = "questions",
    operation_id = "overview",
    params(parameters::Overview),
    responses(responses::Whole<OverviewAnswer>)
)]
pub(super) async fn overview(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    answer(&request, totals).await
}

fn totals(request: &HttpRequest) -> Result<Question, ApiError> {
    let mut params = Params::of(request)?;
    let query = OverviewQuery { window: params.window(USUAL_WINDOW, Zone::UTC)?, filter: params.filter()? };
    params.finish()?;
    Ok(Question::Overview(query))
}

/// Days: a row for each endpoint and day.
///
/// The newest day comes first, and in it the busiest endpoint. Days are those of UTC, or of the time zone `tz`.
#[utoipa::path(
    get,
    path = "/api/v1/daily",
    tag = "questions",
    operation_id = "daily",
    params(parameters::Daily),
    responses(responses::Table<DailyAnswer>)
)]
pub(super) async fn daily(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    answer(&request, days).await
}

fn days(request: &HttpRequest) -> Result<Question, ApiError> {
    let mut params = Params::of(request)?;
    let zone = params.zone()?;
    let query = DailyQuery {
        window: params.window(DAILY_WINDOW, zone)?,
        zone,
        filter: crate::store::EndpointFilter {
            id: params.number("endpoint_id", 1..=i32::MAX)?.map(crate::domain::EndpointId),
            ..params.filter()?
        },
        limit: params.limit(DAILY_ROWS)?,
    };
    let format = params.format()?;
    params.finish()?;
    Ok(Question::Daily(query, format))
}

/// The figures of one endpoint.
#[utoipa::path(
    get,
    path = "/api/v1/endpoints/{id}",
    tag = "questions",
    operation_id = "endpoint",
    params(parameters::Endpoint),
    responses(responses::OfEndpoint<EndpointAnswer>)
)]
pub(super) async fn endpoint(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    answer(&request, figures).await
}

fn figures(request: &HttpRequest) -> Result<Question, ApiError> {
    let id = endpoint_id(request)?;
    let mut params = Params::of(request)?;
    let query = EndpointQuery { id, window: params.window(USUAL_WINDOW, Zone::UTC)? };
    params.finish()?;
    Ok(Question::Endpoint(query))
}

/// The course of one endpoint.
///
/// Its figures step by step, those without requests too. Steps of a day are days of UTC, or of the time zone `tz`. At most 2,900 steps; minutes are kept for a shorter time than hours
/// (48 hours, unless set up otherwise).
#[utoipa::path(
    get,
    path = "/api/v1/endpoints/{id}/series",
    tag = "questions",
    operation_id = "endpointSeries",
    params(parameters::Series),
    responses(responses::OfSeries<SeriesAnswer>)
)]
pub(super) async fn series(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    answer(&request, course).await
}

fn course(request: &HttpRequest) -> Result<Question, ApiError> {
    let id = endpoint_id(request)?;
    let mut params = Params::of(request)?;
    let zone = params.zone()?;
    let query = SeriesQuery {
        id,
        window: params.window(USUAL_WINDOW, zone)?,
        zone,
        step: params.one_of("step", &Step::ALL.map(|step| (step.name(), step)))?,
    };
    params.finish()?;
    Ok(Question::Series(query))
}

/// Single requests of one endpoint.
///
/// The newest, the slowest or the failed (5xx) ones. They are kept for a shorter time than the figures (30 days, unless set
/// up otherwise); `raw_since` says from when on.
#[utoipa::path(
    get,
    path = "/api/v1/endpoints/{id}/requests",
    tag = "questions",
    operation_id = "endpointRequests",
    params(parameters::Requests),
    responses(responses::OfEndpoint<RequestsAnswer>)
)]
pub(super) async fn requests(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    answer(&request, raw_requests).await
}

fn raw_requests(request: &HttpRequest) -> Result<Question, ApiError> {
    let id = endpoint_id(request)?;
    let mut params = Params::of(request)?;
    let query = RequestsQuery {
        id,
        window: params.window(RAW_WINDOW, Zone::UTC)?,
        by: params.one_of("by", &RAW_ORDERS)?.unwrap_or(RawOrder::Newest),
        limit: params.limit(RAW_REQUESTS)?,
    };
    params.finish()?;
    Ok(Question::Requests(query))
}

/// Answers the question that `read` finds in the request. It finds the same in the same text, and in nothing else.
async fn answer(
    request: &HttpRequest,
    read: fn(&HttpRequest) -> Result<Question, ApiError>,
) -> Result<HttpResponse, ApiError> {
    // Present wherever there are routes: `serve` puts it there. Borrowed, not extracted: the workers all count the holders of
    // an `Arc` in one place, and take it from each other at every request.
    let app = request.app_data::<Data<App>>().ok_or(ApiError::Internal)?;
    let asked = Understood::question(request, read)?;
    let anew = asks_for_new(request);
    let content_type = match asked.format() {
        Format::Json => &JSON,
        Format::Csv => &CSV,
    };
    // What is at hand is told on the spot: the way to the main runtime and back takes longer than all the rest.
    let now = app.stats.now();
    let at_hand = if anew { None } else { app.stats.at_hand(&asked, now).await };
    let (answered, now) = match at_hand {
        Some(answered) => (answered, now),
        None => {
            // In a box, so that those who need not wait do not carry along the room for it.
            let answered = Box::pin(ask(app, Asked::clone(&asked), anew)).instrument(headers::span(request)).await?;
            (answered, app.stats.now())
        }
    };
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CONTENT_TYPE, content_type.clone()));
    let mut response = encoding::send(request, response, &answered.body).await;
    let Answered { etag, made_at, freshness, cache, took, .. } = answered;
    let max_age = app.stats.lifetime(freshness).max_age;
    let age = (now - made_at).to_std().unwrap_or_default();
    response.extensions_mut().insert(Keep::Answer { etag, max_age, age, cache, took });
    Ok(response)
}

async fn ask(app: &App, asked: Asked, anew: bool) -> Result<Answered, ApiError> {
    let stats = app.stats.clone();
    let asked =
        app.on_main(
            ApiError::Internal,
            async move { tokio::time::timeout(ANSWERED_WITHIN, stats.ask(&asked, anew)).await },
        );
    let in_time = asked.await?.map_err(|_| {
        tracing::error!("a question was not answered in time");
        ApiError::TimedOut
    })?;
    Ok(in_time?)
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
