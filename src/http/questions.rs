//! `GET` of answers: a query string becomes a question, an answer becomes a response.

use std::time::Duration;

use actix_web::http::header;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use super::App;
use super::encoding;
use super::error::ApiError;
use super::headers::Keep;
use super::params::{Params, endpoint_id};
use crate::domain::{Order, Step};
use crate::stats::{
    Answered, DailyQuery, EndpointQuery, Format, OverviewQuery, Question, RankingQuery, RequestsQuery, SeriesQuery,
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
    let mut response = HttpResponse::Ok();
    match format {
        Format::Json => response.content_type("application/json"),
        Format::Csv => response.content_type("text/csv; charset=utf-8"),
    };
    let mut response = encoding::send(request, response, &answered.body).await;
    let Answered { etag, made_at, freshness, cache, took, .. } = answered;
    let max_age = app.stats.lifetime(freshness).max_age;
    let age = (app.stats.now() - made_at).to_std().unwrap_or_default();
    response.extensions_mut().insert(Keep::Answer { etag, max_age, age, cache, took });
    Ok(response)
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
