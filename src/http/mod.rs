//! HTTP: the only module that knows actix.
//!
//! Owns: the table of routes, bodies and query strings, statuses and headers. Uses: `stats`, `ingest`, `store`'s
//! filters and errors, `domain`.
//!
//! actix runs its handlers on worker threads, each with a runtime of its own that ends with the server. What speaks to
//! Postgres or Redis runs on the main runtime (`App::on_main`): a connection dialled on a worker's runtime would die with
//! it, while the writer still has batches to flush; and work that a client asked for ends well even if the client goes.

mod body;
mod error;
mod idle;
mod listen;
mod page;
mod params;
mod pieces;
mod questions;
mod records;
mod tls;

use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::dev::{Server, Service as _};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{App as ActixApp, HttpResponse, HttpServer, Resource, guard};

use crate::ingest::Ingest;
use crate::stats::Stats;
use error::ApiError;
use idle::Watch;
use pieces::in_pieces;

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
    /// Runs `work` on the main runtime, to its end. If it is cut short, by a mistake of the service's own, the answer is
    /// `cut_short`.
    async fn on_main<T: Send + 'static>(
        &self,
        cut_short: ApiError,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.runtime.spawn(work).await.map_err(|error| {
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

/// Takes connections on `listener`, with TLS (HTTP/2 and 1.1) or without (HTTP/1.1); they are served once the returned server
/// runs.
///
/// # Errors
/// An I/O error if the listener cannot be used.
pub fn serve(listener: TcpListener, tls: Option<Tls>, app: App) -> std::io::Result<Running> {
    let time_outs = app.time_outs;
    let room = Data::new(body::Room::of(app.max_body_bytes));
    let app = Data::new(app);
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let connections = listen::connections().div_ceil(workers);
    let server = HttpServer::new(move || {
        ActixApp::new()
            .app_data(app.clone())
            .app_data(room.clone())
            .wrap_fn(move |request, service| {
                let under_way = request.conn_data::<Watch>().map(Watch::request);
                let answer = service.call(request);
                async move { Ok(answer.await?.map_body(|_, body| in_pieces(body, time_outs.written, under_way))) }
            })
            .configure(routes)
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

/// Every route on one page.
fn routes(config: &mut ServiceConfig) {
    config
        .service(write("/api/v1/requests").route(web::post().to(records::ingest)))
        .service(read("/api/v1/endpoints/top", questions::top))
        .service(read("/api/v1/endpoints/{id}", questions::endpoint))
        .service(read("/api/v1/endpoints/{id}/series", questions::series))
        .service(read("/api/v1/endpoints/{id}/requests", questions::requests))
        .service(read("/api/v1/overview", questions::overview))
        .service(read("/api/v1/daily", questions::daily))
        .service(read("/", page::page))
        .service(read("/livez", livez))
        .service(read("/readyz", readyz))
        .default_service(web::to(|| async { ApiError::NoSuchPage.response() }));
}

/// A resource that is read.
fn read<H, A>(path: &str, handler: H) -> Resource
where
    H: actix_web::Handler<A>,
    A: actix_web::FromRequest + 'static,
    H::Output: actix_web::Responder + 'static,
{
    web::resource(path)
        .route(web::route().guard(guard::Any(guard::Get()).or(guard::Head())).to(handler))
        .default_service(web::to(|| async { ApiError::MethodNotAllowed { allow: READ }.response() }))
}

/// A resource that is written to.
fn write(path: &str) -> Resource {
    web::resource(path).default_service(web::to(|| async { ApiError::MethodNotAllowed { allow: "POST" }.response() }))
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
