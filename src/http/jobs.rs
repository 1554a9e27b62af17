//! Maintenance over HTTP: how it goes, and a job at once.

use std::future::Future;
use std::time::Duration;

use actix_web::http::header;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};

use super::App;
use super::error::ApiError;
use super::openapi::{parameters, responses};
use super::params::Params;
use super::unread::hold;
use crate::jobs::{Job, JobAnswer, JobState, JobsAnswer, Started, StartedAnswer};
use crate::store::StoreError;

/// How long looking or beginning may take in all. A run that is begun later than that is given up before its work.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// The jobs of maintenance: when each is due, and how its last run went.
///
/// Needs a key of the scope admin. Never kept: it is the present state.
#[utoipa::path(
    get,
    path = "/api/v1/jobs",
    tag = "maintenance",
    operation_id = "jobs",
    responses(responses::Maintenance<JobsAnswer>)
)]
pub(super) async fn list(app: Data<App>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    Params::of(&request)?.finish()?;
    let jobs = app.jobs.clone();
    let answer = in_time(&app, async move { jobs.report().await }).await?;
    Ok(HttpResponse::Ok().json(answer))
}

/// One job and its last runs.
///
/// Needs a key of the scope admin. Never kept: it is the present state.
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{name}",
    tag = "maintenance",
    operation_id = "job",
    params(parameters::OfJob),
    responses(responses::OfJob<JobAnswer>)
)]
pub(super) async fn one(app: Data<App>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let job = named(&request)?;
    Params::of(&request)?.finish()?;
    let jobs = app.jobs.clone();
    let answer = in_time(&app, async move { jobs.report_one(job).await }).await?;
    Ok(HttpResponse::Ok().json(answer))
}

/// Run a job now.
///
/// Needs a key of the scope admin. It runs on the replica that answers, also on one with `JOBS=off`, and under the same lock
/// as on schedule: where it is at work already nothing is begun. The answer comes once it has begun; `Location` is where
/// to look how it goes. A body means nothing.
#[utoipa::path(
    post,
    path = "/api/v1/jobs/{name}/run",
    tag = "maintenance",
    operation_id = "runJob",
    params(parameters::OfJob),
    responses(responses::RunOfJob)
)]
pub(super) async fn run(app: Data<App>, request: HttpRequest, payload: Payload) -> HttpResponse {
    let response = begin(&app, &request).await.unwrap_or_else(|error| error.response());
    hold(response, payload.into_inner())
}

async fn begin(app: &App, request: &HttpRequest) -> Result<HttpResponse, ApiError> {
    let job = named(request)?;
    Params::of(request)?.finish()?;
    let jobs = app.jobs.clone();
    match in_time(app, async move { jobs.start(job).await }).await? {
        Started::Now(slot) => {
            let answer = StartedAnswer { job: job.name(), slot, state: JobState::Running };
            let place = format!("/api/v1/jobs/{job}");
            Ok(HttpResponse::Accepted().insert_header((header::LOCATION, place)).json(answer))
        }
        Started::AlreadyRunning => Err(ApiError::JobRunning),
    }
}

fn named(request: &HttpRequest) -> Result<Job, ApiError> {
    request.match_info().get("name").unwrap_or_default().parse().map_err(|_| ApiError::NoSuchJob)
}

/// What `work` comes to on the main runtime, where a run that it begins goes on.
async fn in_time<T: Send + 'static>(
    app: &App,
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, ApiError> {
    // Within, since a timer belongs to the runtime on which it is made.
    let timed = async move { tokio::time::timeout(ANSWERED_WITHIN, work).await.unwrap_or(Err(StoreError::TimedOut)) };
    let done = app.on_main(ApiError::Internal, timed).await?;
    done.map_err(|error| {
        tracing::error!(error = %error, "maintenance could not be asked");
        ApiError::from(&error)
    })
}
