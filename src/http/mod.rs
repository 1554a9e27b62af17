//! HTTP: the only module that knows actix.
//!
//! Owns: the table of routes, bodies and query strings, statuses and headers. Uses: `limits`, `stats`, `ingest`, `store`'s
//! filters and errors, `domain`.
//!
//! actix runs its handlers on worker threads, each with a runtime of its own that ends with the server. What speaks to
//! Postgres or Redis runs on the main runtime (`App::on_main`): a connection dialled on a worker's runtime would die with
//! it, while the writer still has batches to flush; and work that a client asked for ends well even if the client goes.

mod address;
mod body;
mod encoding;
mod error;
mod headers;
mod limits;
mod page;
mod params;
mod questions;
mod records;
mod unread;

use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::dev::{HttpServiceFactory, Server};
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{App as ActixApp, FromRequest, Handler, HttpResponse, HttpServer, Resource, Responder, guard};
use ipnet::IpNet;
use tracing::Instrument as _;

use crate::ingest::Ingest;
use crate::limits::{Kind, Limits};
use crate::stats::Stats;
use error::ApiError;

/// How long a client may take to send the head of a request.
const HEAD_ARRIVES_WITHIN: Duration = Duration::from_secs(5);

/// How long requests that are under way may take once the service was told to stop. The README asks for 45 s in all.
const DRAINED_WITHIN_SECONDS: u64 = 25;

/// The methods of everything that is read.
const READ: &str = "GET, HEAD";

/// What the handlers work with.
pub struct App {
    /// Answers questions.
    pub stats: Arc<Stats>,
    /// Takes records.
    pub ingest: Arc<Ingest>,
    /// What one client may ask for.
    pub limits: Arc<Limits>,
    /// Whose word is taken on where a request comes from.
    pub trusted_proxies: Vec<IpNet>,
    /// The largest body, bytes.
    pub max_body_bytes: usize,
    /// Whether new work should go to another replica.
    pub stopping: Arc<AtomicBool>,
    /// Whether connections are TLS.
    pub tls: bool,
    /// The main runtime.
    pub runtime: tokio::runtime::Handle,
}

impl App {
    /// Whether answers are for one client and not for whoever asks the same.
    fn is_private(&self) -> bool {
        false
    }

    /// Runs `work` on the main runtime, to its end. If it is cut short, by a mistake of the service's own, the answer is
    /// `cut_short`.
    async fn on_main<T: Send + 'static>(
        &self,
        cut_short: ApiError,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.runtime.spawn(work.in_current_span()).await.map_err(|error| {
            tracing::error!(error = %error, "a request's work was cut short");
            cut_short
        })
    }
}

/// A server that answers requests.
pub struct Running(Server);

impl Running {
    /// Serves until `stop` is over, then answers the requests that are under way, and ends.
    ///
    /// # Errors
    /// An I/O error that ended the server before.
    pub async fn until(self, stop: impl Future<Output = ()>) -> std::io::Result<()> {
        let Self(server) = self;
        let handle = server.handle();
        let mut serving = std::pin::pin!(server);
        tokio::select! {
            ended = &mut serving => return ended,
            () = stop => {}
        }
        // The server makes progress only while it is polled, so stopping it is awaited together with it.
        let (_, ended) = tokio::join!(handle.stop(true), serving);
        ended
    }
}

/// Takes connections on `listener`; they are served once the returned server runs.
///
/// # Errors
/// An I/O error if the listener cannot be used.
pub fn serve(listener: TcpListener, app: App) -> std::io::Result<Running> {
    let app = Data::new(app);
    let server =
        HttpServer::new(move || ActixApp::new().app_data(app.clone()).configure(routes).wrap(from_fn(headers::write)))
            .client_request_timeout(HEAD_ARRIVES_WITHIN)
            .shutdown_timeout(DRAINED_WITHIN_SECONDS)
            // Signals are the application's: it also has a writer and jobs to stop.
            .disable_signals()
            .listen(listener)?;
    Ok(Running(server.run()))
}

/// Every route on one page: those for records, those for questions, and the open ones, which nothing limits.
fn routes(config: &mut ServiceConfig) {
    config
        .service(write("/api/v1/requests", records::ingest))
        .service(read("/api/v1/endpoints/top", questions::top))
        .service(read("/api/v1/endpoints/{id}", questions::endpoint))
        .service(read("/api/v1/endpoints/{id}/series", questions::series))
        .service(read("/api/v1/endpoints/{id}/requests", questions::requests))
        .service(read("/api/v1/overview", questions::overview))
        .service(read("/api/v1/daily", questions::daily))
        .service(open("/", page::page))
        .service(open("/favicon.ico", page::favicon))
        .service(open("/livez", livez))
        .service(open("/readyz", readyz))
        .default_service(web::to(|| async { ApiError::NoSuchPage.response() }));
}

/// A resource that anybody may read, as often as they like.
fn open<H, A>(path: &str, handler: H) -> Resource
where
    H: Handler<A>,
    A: FromRequest + 'static,
    H::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::route().guard(guard::Any(guard::Get()).or(guard::Head())).to(handler))
        .default_service(web::to(|| async { ApiError::MethodNotAllowed { allow: READ }.response() }))
}

/// A resource that is read.
fn read<H, A>(path: &str, handler: H) -> impl HttpServiceFactory + 'static
where
    H: Handler<A>,
    A: FromRequest + 'static,
    H::Output: Responder + 'static,
{
    open(path, handler).wrap(from_fn(|request, next| limits::keep(Kind::Read, request, next)))
}

/// A resource that records are sent to.
fn write<H, A>(path: &str, handler: H) -> impl HttpServiceFactory + 'static
where
    H: Handler<A>,
    A: FromRequest + 'static,
    H::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::post().to(handler))
        .default_service(web::to(|| async { ApiError::MethodNotAllowed { allow: "POST" }.response() }))
        .wrap(from_fn(|request, next| limits::keep(Kind::Ingest, request, next)))
}

/// The process is alive. Touches nothing: a database that is away is no reason to restart the service.
async fn livez() -> HttpResponse {
    HttpResponse::Ok().body("alive\n")
}

/// The process takes work. A database that is away does not change that: it answers 503 itself, and cached answers go on.
async fn readyz(app: Data<App>) -> HttpResponse {
    if app.stopping.load(Ordering::Relaxed) {
        HttpResponse::ServiceUnavailable().body("stopping\n")
    } else {
        HttpResponse::Ok().body("ready\n")
    }
}
