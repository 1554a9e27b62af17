//! The service put together, run, and stopped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use ipnet::IpNet;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::auth::KeyRing;
use crate::cache::{Cache, CacheConfig, Namespace};
use crate::domain::Clock;
use crate::http;
use crate::ingest::{Ingest, IngestConfig};
use crate::jobs::{Jobs, JobsConfig};
use crate::limits::{Limits, LimitsConfig};
use crate::stats::Stats;
use crate::store::{self, ReplicaConfig, Store, StoreConfig};

/// How long the writer may take to flush what waits. With the 25 s that requests have and twice [`JOBS_END_WITHIN`], less
/// than the 45 s that the README asks for.
const FLUSHED_WITHIN: Duration = Duration::from_secs(12);

/// How long a job may take to end its piece; cut off, its transaction is rolled back.
const JOBS_END_WITHIN: Duration = Duration::from_secs(3);

/// What the service needs to start.
#[derive(Clone)]
pub struct AppConfig {
    /// The database.
    pub store: StoreConfig,
    /// A read replica for the questions.
    pub replica: Option<ReplicaConfig>,
    /// The caches.
    pub cache: CacheConfig,
    /// What is taken in.
    pub ingest: IngestConfig,
    /// When maintenance is done, and how long things are kept.
    pub maintenance: JobsConfig,
    /// What one client may ask for.
    pub limits: LimitsConfig,
    /// Whose word is taken on where a request comes from.
    pub trusted_proxies: Vec<IpNet>,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Whether requests need an API key.
    pub auth: bool,
    /// The certificate to show; without one, plain HTTP.
    pub tls: Option<http::TlsFiles>,
    /// How long clients may take.
    pub time_outs: http::TimeOuts,
    /// The largest body, bytes.
    pub max_body_bytes: usize,
    /// Whether to run maintenance.
    pub jobs: bool,
    /// Whether to bring the schema up to date first.
    pub migrate: bool,
}

/// A service that is ready to run.
pub struct Application {
    address: SocketAddr,
    server: http::Running,
    stopping: Arc<AtomicBool>,
    store: Arc<Store>,
    ingest: Arc<Ingest>,
    stats: Arc<Stats>,
    keys: Option<Arc<KeyRing>>,
    jobs: Jobs,
    writer: JoinHandle<()>,
    writer_stop: CancellationToken,
    runs_jobs: bool,
}

impl Application {
    /// Migrates, connects, and binds the address; connections queue from here on.
    ///
    /// # Errors
    /// What keeps the service from starting.
    pub async fn build(config: AppConfig, clock: Clock) -> anyhow::Result<Self> {
        // First, since it needs nothing: a wrong file is told before anything is migrated.
        let tls = config.tls.map(http::Tls::new).transpose().context("TLS")?;
        if config.migrate {
            for migration in store::migrate(&config.store.url).await? {
                tracing::info!(migration, "migrated");
            }
        }
        let store = Store::new(&config.store)?;
        let store = Arc::new(match &config.replica {
            Some(replica) => store.with_replica(replica, clock.clone())?,
            None => store,
        });
        const DATABASE: &str = "the database does not answer as it should";
        if !config.migrate {
            // Somebody else does, and may not have yet.
            store.wait_for_schema().await.context(DATABASE)?;
        }
        let jobs = Jobs::new(Arc::clone(&store), clock.clone(), config.maintenance);
        jobs.synchronise().await.context(DATABASE)?;

        let keys = if config.auth { Some(key_ring(&store).await) } else { None };

        let writer_stop = CancellationToken::new();
        let (ingest, writer) = Ingest::start(Arc::clone(&store), clock.clone(), config.ingest, writer_stop.clone());
        let ingest = Arc::new(ingest);
        let namespace = Namespace::new(store::schema_version(), &store.installation());
        let cache = Arc::new(Cache::new(&config.cache, namespace)?);
        let jobs = jobs.with_cache(Arc::clone(&cache));
        let limits = Limits::new(config.limits, clock.clone(), cache.debits(), tokio::runtime::Handle::current());
        let stats = Arc::new(Stats::new(Arc::clone(&store), cache, clock));
        stats.cache().warm_up().await;

        let listener = http::bind(config.listen, config.time_outs)
            .with_context(|| format!("cannot listen on {}", config.listen))?;
        let address = listener.local_addr()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let encrypted = tls.is_some();
        let server = http::serve(
            listener,
            tls,
            http::App {
                stats: Arc::clone(&stats),
                ingest: Arc::clone(&ingest),
                jobs: jobs.clone(),
                keys: keys.clone(),
                limits: Arc::new(limits),
                trusted_proxies: config.trusted_proxies,
                max_body_bytes: config.max_body_bytes,
                time_outs: config.time_outs,
                tls: encrypted,
                stopping: Arc::clone(&stopping),
                runtime: tokio::runtime::Handle::current(),
            },
        )?;
        Ok(Self {
            address,
            server,
            stopping,
            store,
            ingest,
            stats,
            keys,
            jobs,
            writer,
            writer_stop,
            runs_jobs: config.jobs,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The way in for records.
    #[must_use]
    pub fn ingest(&self) -> Arc<Ingest> {
        Arc::clone(&self.ingest)
    }

    /// The way to answers.
    #[must_use]
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    /// Maintenance by hand.
    #[must_use]
    pub fn jobs(&self) -> Jobs {
        self.jobs.clone()
    }

    /// The database.
    #[must_use]
    pub fn store(&self) -> Arc<Store> {
        Arc::clone(&self.store)
    }

    /// Serves until `stop` is cancelled, then stops well: requests under way are answered, what waits is flushed, jobs end
    /// their piece.
    ///
    /// # Errors
    /// Whatever ends the server before it was told to, and records that could not be flushed in time.
    pub async fn run_until(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Self { server, stopping, store, keys, jobs, writer, writer_stop, runs_jobs, .. } = self;
        let jobs_stop = CancellationToken::new();
        let mut jobs = tokio::spawn(jobs.run(runs_jobs, jobs_stop.clone()));

        // Ends with the jobs: requests that are still being answered have keys too.
        let keys_stop = jobs_stop.clone();
        let keys = keys.map(|keys| tokio::spawn(async move { keys.run(keys_stop).await }));

        let served = server.until(async move {
            stop.cancelled().await;
            // Balancers that look now send new work elsewhere; what still comes is served.
            stopping.store(true, Ordering::Relaxed);
            tracing::info!("stopping");
        });
        let served = served.await.context("the server ended");

        // In this order: the writer lives until the last request has its answer.
        writer_stop.cancel();
        let flushed = tokio::time::timeout(FLUSHED_WITHIN, writer).await;
        jobs_stop.cancel();
        if tokio::time::timeout(JOBS_END_WITHIN, &mut jobs).await.is_err() {
            jobs.abort();
        }
        // Cut off between two statements or in one, which only reads: it ends at once.
        if let Some(keys) = keys {
            let _ = tokio::time::timeout(JOBS_END_WITHIN, keys).await;
        }
        // Connections whose work was cut off close by themselves; nobody waits for them longer than for a job.
        let _ = tokio::time::timeout(JOBS_END_WITHIN, store.close()).await;
        served?;
        flushed
            .context("records that were not answered yet could not be flushed in time")?
            .context("the writer failed")?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// The API keys, as far as Postgres tells them now; their loop asks again.
async fn key_ring(store: &Arc<Store>) -> Arc<KeyRing> {
    let keys = Arc::new(KeyRing::new(Arc::clone(store)));
    if let Err(error) = keys.load().await {
        tracing::error!(error = %error, "API keys could not be loaded yet");
    }
    if keys.is_empty() {
        tracing::warn!(
            "there is no API key yet, so nobody may ask or send anything; `endpoint-stats keys create --scope ingest` \
             and `--scope read` make keys, which work at once"
        );
    }
    keys
}
