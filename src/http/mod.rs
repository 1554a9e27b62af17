//! HTTP: the only module that knows actix.
//!
//! Owns: the table of routes, bodies and query strings, statuses and headers, the description of them all. Uses: `auth`,
//! `limits`, `stats`, `ingest`, `jobs`, `cache`'s bodies, `store`'s filters and errors, `domain`.
//!
//! actix runs its handlers on worker threads, each with a runtime of its own that ends with the server. What speaks to
//! Postgres or Redis runs on the main runtime (`App::on_main`): a connection dialled on a worker's runtime would die with
//! it, while the writer still has batches to flush; and work that a client asked for ends well even if the client goes.

mod access;
mod address;
mod body;
mod docs;
mod encoding;
mod error;
mod headers;
mod idle;
mod jobs;
mod limits;
mod listen;
mod openapi;
mod page;
mod params;
mod pieces;
mod questions;
mod records;
mod text;
mod tls;
mod understood;
mod unread;

use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::body::BoxBody;
use actix_web::dev::{HttpServiceFactory, Server, Service as _, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::Version;
use actix_web::http::header::ContentType;
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{App as ActixApp, FromRequest, Handler, HttpResponse, HttpServer, Resource, Responder, guard};
use ipnet::IpNet;
use tracing::Instrument as _;

use crate::auth::KeyRing;
use crate::domain::Scope;
use crate::ingest::Ingest;
use crate::jobs::Jobs;
use crate::limits::{Kind, Limits};
use crate::stats::Stats;
use error::ApiError;
use headers::{Headers, Site};
use idle::Watch;
use pieces::in_pieces;
use understood::Understood;

pub use listen::{TimeOuts, bind};
pub use tls::{InvalidTls, Tls, TlsFiles};

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
    /// Maintenance.
    pub jobs: Jobs,
    /// Knows who may ask; `None`: anybody may.
    pub keys: Option<Arc<KeyRing>>,
    /// What one client may ask for.
    pub limits: Arc<Limits>,
    /// Whose word is taken on where a request comes from.
    pub trusted_proxies: Vec<IpNet>,
    /// The largest body, bytes.
    pub max_body_bytes: usize,
    /// How long clients may take.
    pub time_outs: TimeOuts,
    /// Whether clients speak TLS to this service.
    pub tls: bool,
    /// Whether new work should go to another replica.
    pub stopping: Arc<AtomicBool>,
    /// The main runtime.
    pub runtime: tokio::runtime::Handle,
}

impl App {
    /// What the headers of all answers depend on.
    fn site(&self) -> Site {
        Site { is_private: self.keys.is_some(), tls: self.tls }
    }

    /// Runs `work` on the main runtime, to its end. If it is cut short, by a mistake of the service's own, the answer is
    /// `cut_short`.
    ///
    /// It begins at once, not when what is returned is awaited: so that a handler, whose states are moved and boxed for each
    /// request, has room for a handle only and not for all the states of a question that it may never ask.
    fn on_main<T: Send + 'static>(
        &self,
        cut_short: ApiError,
        work: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Result<T, ApiError>> {
        let under_way = self.runtime.spawn(work.in_current_span());
        async move {
            under_way.await.map_err(|error| {
                tracing::error!(error = %error, "a request's work was cut short");
                cut_short
            })
        }
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

/// Takes connections on `listener`, with TLS (HTTP/2 and 1.1) or without (HTTP/1.1); they are served once the returned server
/// runs.
///
/// # Errors
/// An I/O error if the listener cannot be used.
pub fn serve(listener: TcpListener, tls: Option<Tls>, app: App) -> std::io::Result<Running> {
    let time_outs = app.time_outs;
    let room = Data::new(body::Room::of(app.max_body_bytes));
    let site = app.site();
    let app = Data::new(app);
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let connections = listen::connections().div_ceil(workers);
    let server = HttpServer::new(move || {
        ActixApp::new()
            .app_data(app.clone())
            .app_data(room.clone())
            .app_data(Understood::default())
            .configure(routes)
            // Around all routes: what they have made gets its headers and is sent.
            .wrap_fn(move |mut request, service| {
                let under_way = request.conn_data::<Watch>().map(Watch::request);
                let http_2 = request.version() == Version::HTTP_2;
                let headers = Headers::begin(site, &mut request);
                let answer = service.call(request);
                async move {
                    let answer = headers.write(answer.await?);
                    Ok(answer.map_body(|_, body| in_pieces(body, time_outs.written, under_way, http_2)))
                }
            })
    })
    .on_connect(move |connection, data| Watch::begin(connection, data, time_outs.idle + time_outs.head))
    .keep_alive(time_outs.idle)
    .workers(workers)
    .max_connections(connections)
    // Handshakes at once. Fewer than connections, and clients that stall theirs would keep out all others.
    .max_connection_rate(connections)
    .tls_handshake_timeout(time_outs.handshake)
    .client_request_timeout(time_outs.head)
    .shutdown_timeout(DRAINED_WITHIN_SECONDS)
    // Signals are the application's: it also has a writer and jobs to stop.
    .disable_signals();
    let server = match tls {
        Some(tls) => {
            let config = tls.serve(time_outs.certificate).map_err(std::io::Error::other)?;
            server.listen_rustls_0_23(listener, config)?
        }
        None => server.listen(listener)?,
    };
    Ok(Running(server.run()))
}

/// Every route on one page: those that need a key of the scope ingest, those that need one of the scope read, those of
/// maintenance, which need one of the scope admin, and the open ones, which nothing limits.
fn routes(config: &mut ServiceConfig) {
    config
        .service(write("/api/v1/requests", records::ingest))
        .service(read("/api/v1/endpoints/top", questions::top))
        .service(read("/api/v1/endpoints/{id}", questions::endpoint))
        .service(read("/api/v1/endpoints/{id}/series", questions::series))
        .service(read("/api/v1/endpoints/{id}/requests", questions::requests))
        .service(read("/api/v1/overview", questions::overview))
        .service(read("/api/v1/daily", questions::daily))
        .service(admin_read("/api/v1/jobs", jobs::list))
        .service(admin_read("/api/v1/jobs/{name}", jobs::one))
        .service(admin_run("/api/v1/jobs/{name}/run", jobs::run))
        .service(open("/", page::page))
        .service(open("/favicon.ico", page::favicon))
        .service(open("/docs", docs::page))
        .service(open("/docs/{file}", docs::file))
        .service(open("/openapi.json", openapi::json))
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

/// A resource that is read with a key of the scope read.
fn read<H, A>(path: &str, handler: H) -> impl HttpServiceFactory + 'static
where
    H: Handler<A>,
    A: FromRequest + 'static,
    H::Output: Responder + 'static,
{
    // Not in a span, as the others are: most of what is asked is at hand. `questions` opens it for the rest.
    guarded(open(path, handler), Scope::Read, Kind::Read)
}

/// A resource that records are sent to, with a key of the scope ingest.
fn write<H, A>(path: &str, handler: H) -> impl HttpServiceFactory + 'static
where
    H: Handler<A>,
    A: FromRequest + 'static,
    H::Output: Responder + 'static,
{
    guarded(posted(path, handler).wrap(from_fn(in_span)), Scope::Ingest, Kind::Ingest)
}

/// A resource that is read with a key of the scope admin: what went wrong inside is for operators.
fn admin_read<H, A>(path: &str, handler: H) -> impl HttpServiceFactory + 'static
where
    H: Handler<A>,
    A: FromRequest + 'static,
    H::Output: Responder + 'static,
{
    guarded(open(path, handler).wrap(from_fn(in_span)), Scope::Admin, Kind::Read)
}

/// A resource that sets something going, with a key of the scope admin.
fn admin_run<H, A>(path: &str, handler: H) -> impl HttpServiceFactory + 'static
where
    H: Handler<A>,
    A: FromRequest + 'static,
    H::Output: Responder + 'static,
{
    guarded(posted(path, handler).wrap(from_fn(in_span)), Scope::Admin, Kind::Read)
}

fn posted<H, A>(path: &str, handler: H) -> Resource
where
    H: Handler<A>,
    A: FromRequest + 'static,
    H::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::post().to(handler))
        .default_service(web::to(|| async { ApiError::MethodNotAllowed { allow: "POST" }.response() }))
}

/// A resource for those who hold a key, as often as their limit lets them.
fn guarded<S>(resource: Resource<S>, scope: Scope, kind: Kind) -> impl HttpServiceFactory + 'static
where
    S: ServiceFactory<
            ServiceRequest,
            Config = (),
            Response = ServiceResponse,
            Error = actix_web::Error,
            InitError = (),
        > + 'static,
{
    resource.wrap(from_fn(move |request, next| access::need(scope, kind, request, next)))
}

/// What goes on within is logged with the id of its request.
async fn in_span(request: ServiceRequest, next: Next<BoxBody>) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let span = headers::span(request.request());
    next.call(request).instrument(span).await
}

/// Whether the process is alive.
///
/// Touches nothing: a database that is away is no reason to restart the service.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "service",
    responses((status = 200, description = "It is", content_type = "text/plain", body = String))
)]
async fn livez() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::plaintext()).body("alive\n")
}

/// Whether the process takes work.
///
/// A database that is away does not change that: questions then answer 503 themselves, and cached answers go on.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "service",
    responses(
        (status = 200, description = "It does", content_type = "text/plain", body = String),
        (status = 503, description = "It is stopping", content_type = "text/plain", body = String)
    )
)]
async fn readyz(app: Data<App>) -> HttpResponse {
    if app.stopping.load(Ordering::Relaxed) {
        HttpResponse::ServiceUnavailable().content_type(ContentType::plaintext()).body("stopping\n")
    } else {
        HttpResponse::Ok().content_type(ContentType::plaintext()).body("ready\n")
    }
}
