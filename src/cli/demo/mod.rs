//! `demo`: everything at once, with nothing to set up.
//!
//! A private Postgres under the data directory, a month of traffic of a made-up shop, live traffic, the service. The data is
//! kept for the next start: each minute of traffic has an idempotency key, so what is there is not written again.

mod endpoints;
mod shop;
mod traffic;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use clap::builder::Resettable;
use clap::{Args, FromArgMatches as _};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{stop_on_signal, table};
use crate::app::{AppConfig, Application};
use crate::cache::CacheConfig;
use crate::config::DataOptions;
use crate::domain::{Clock, Fingerprint, Order, RecordFields, Target, Timestamp, WindowRequest, Zone};
use crate::embedded::{Durability, EmbeddedPostgres, Options};
use crate::http::TimeOuts;
use crate::ingest::{IdempotencyKey, Ingest, IngestError, Parsed};
use crate::jobs::JobsConfig;
use crate::limits::LimitsConfig;
use crate::stats::RankingQuery;
use crate::store::{DEMO_KEYS, EndpointFilter, Source, Store, StoreConfig};
use shop::{Request, Shop};

/// Days of traffic before the first start.
const HISTORY: TimeDelta = TimeDelta::days(30);

/// The same shop every time.
const SEED: u64 = 20_261_121;

/// Minutes on their way to the writer at once; it puts many into one transaction.
const MINUTES_IN_FLIGHT: usize = 1_000;

/// How often a minute is offered to the writer before the demo gives up.
const TRIES: u32 = 5;

/// How long it waits in between.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How often live traffic comes in.
const LIVE_EVERY: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(super) struct DemoCommand {
    /// Where the private Postgres keeps its data
    #[arg(long, env = "DATA_DIR", default_value = "./.endpoint-stats", value_name = "DIR")]
    data_dir: PathBuf,

    /// Address to listen on; a free port is taken where this one is in use
    #[arg(long, env, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,

    /// Requests a second of the made-up shop, averaged over a week
    #[arg(long, default_value_t = 1.0, value_parser = rate, value_name = "N")]
    rate: f64,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.01..=100.0).contains(&rate) => Ok(rate),
        _ => Err("must be from 0.01 to 100".to_owned()),
    }
}

impl DemoCommand {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        if !self.listen.ip().is_loopback() {
            anyhow::bail!("the demo listens on loopback only, since anyone who reaches it may read and write");
        }
        let stop = stop_on_signal(|| {})?;
        eprintln!("Starting a private Postgres in {} …", self.data_dir.display());
        let mut postgres = EmbeddedPostgres::start(Options {
            data_dir: self.data_dir.clone(),
            durability: Durability::Kept,
            max_connections: 50,
            settings: Vec::new(),
        })
        .await?;
        let url = postgres.url().to_owned();
        let served = tokio::select! {
            served = self.serve(url, stop) => served,
            error = postgres.ended() => Err(error.into()),
        };
        postgres.stop().await?;
        served
    }

    async fn serve(&self, url: String, stop: CancellationToken) -> anyhow::Result<()> {
        let application = self.build(url).await?;
        let (ingest, stats, jobs) = (application.ingest(), application.stats(), application.jobs());

        jobs.partitions().await?;
        let now = Utc::now();
        let shop = Shop::new(SEED, floor(now, TimeDelta::hours(1)), self.rate);
        fill(&shop, &application.store(), &ingest, now, &stop).await?;
        jobs.fold(&stop).await?;
        jobs.refresh(false).await?;

        if !stop.is_cancelled() {
            let query = RankingQuery {
                by: Order::P95,
                window: WindowRequest::Last("30d".parse()?),
                zone: Zone::UTC,
                limit: 10,
                filter: EndpointFilter::default(),
                min_requests: 0,
                compare_previous: false,
            };
            let ranking = table::table(&stats.ranking(&query, Source::Primary).await?, table::width());
            println!("\nThe slowest endpoints of the last 30 days:\n\n{ranking}\n");
            let address = application.address();
            println!("Live traffic is coming in. Look at  http://{address}/");
            println!("Try the API at                      http://{address}/docs  or ask:\n");
            for question in
                ["by=requests&window=1h", "by=p95&window=24h&compare=previous", "by=errors&window=7d&format=csv"]
            {
                println!("  curl '{}'", format_args!("http://{address}/api/v1/endpoints/top?{question}"));
            }
            println!("  curl 'http://{address}/api/v1/daily?tz=Europe/Berlin&format=csv'");
            println!("  curl 'http://{address}/api/v1/jobs'");
            println!("\nCtrl-C ends it; the data stays in {} for the next start.", self.data_dir.display());
        }
        let live_stop = stop.child_token();
        let live = tokio::spawn(live_traffic(shop, ingest, live_stop.clone()));
        let served = application.run_until(stop).await;
        live_stop.cancel();
        live.await?;
        served
    }

    /// The service, on the address asked for or, where that is in use, on another port.
    async fn build(&self, url: String) -> anyhow::Result<Application> {
        let data = data_defaults()?;
        let retention = data.retention()?;
        let config = |listen| AppConfig {
            store: StoreConfig { url: url.clone(), pool_min: 2, pool_max: 10 },
            replica: None,
            cache: CacheConfig::default(),
            ingest: data.ingest(),
            maintenance: JobsConfig::new(retention),
            // Its address is this machine's own.
            limits: LimitsConfig::NONE,
            trusted_proxies: Vec::new(),
            listen,
            auth: false,
            tls: None,
            time_outs: TimeOuts::default(),
            max_body_bytes: 16 << 20,
            jobs: true,
            migrate: true,
        };
        match Application::build(config(self.listen), Clock::system()).await {
            Err(error) if error.chain().any(is_address_in_use) => {
                let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                Application::build(config(free), Clock::system()).await
            }
            built => built,
        }
    }
}

fn is_address_in_use(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

/// What `serve` takes in and keeps unless told otherwise, whatever the environment says: the demo's traffic is a month old.
fn data_defaults() -> anyhow::Result<DataOptions> {
    let command =
        DataOptions::augment_args(clap::Command::new("demo")).mut_args(|option| option.env(Resettable::Reset));
    Ok(DataOptions::from_arg_matches(&command.get_matches_from(["demo"]))?)
}

/// Writes the minutes of the last month that are not there yet.
async fn fill(
    shop: &Shop,
    store: &Store,
    ingest: &Arc<Ingest>,
    now: DateTime<Utc>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let end = floor(now, TimeDelta::minutes(1));
    let stored = store.keys_with_prefix(DEMO_KEYS).await?;
    let minutes = std::iter::successors(Some(end - HISTORY), |minute| Some(*minute + TimeDelta::minutes(1)))
        .take_while(|minute| *minute < end)
        .filter(|minute| !stored.contains(&key_of(*minute)))
        .collect::<Vec<_>>();
    let bar = ProgressBar::new(minutes.len() as u64);
    bar.set_style(ProgressStyle::with_template("A month of traffic {wide_bar} {percent}% {eta}")?);
    let mut under_way = JoinSet::new();
    for (sent, minute) in minutes.into_iter().enumerate() {
        if stop.is_cancelled() {
            break;
        }
        // Few at first: until the endpoints have their numbers, each minute asks the database for them.
        if under_way.len() >= MINUTES_IN_FLIGHT.min(4 + sent / 8)
            && let Some(ended) = under_way.join_next().await
        {
            ended??;
        }
        let requests = shop.minute(minute);
        under_way.spawn(submit(Arc::clone(ingest), requests, Some(key_of(minute))));
        bar.inc(1);
    }
    while let Some(ended) = under_way.join_next().await {
        ended??;
    }
    bar.finish_and_clear();
    Ok(())
}

/// Sends the requests of the shop as they happen, until `stop`.
async fn live_traffic(shop: Shop, ingest: Arc<Ingest>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(LIVE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent_through = Utc::now();
    let mut claimed = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let now = Utc::now();
        let mut minute = floor(sent_through, TimeDelta::minutes(1));
        while minute <= now {
            let due: Vec<Request> = shop
                .minute(minute)
                .into_iter()
                .filter(|request| request.timestamp > sent_through && request.timestamp <= now)
                .collect();
            if !due.is_empty() {
                // The first of a minute claims it, so that the next start does not fill it.
                let key = (claimed.replace(minute) != Some(minute)).then(|| key_of(minute));
                if let Err(error) = submit(Arc::clone(&ingest), due, key).await {
                    tracing::warn!(error = %format_args!("{error:#}"), "live traffic was not stored");
                }
            }
            minute += TimeDelta::minutes(1);
        }
        sent_through = now;
    }
}

async fn submit(ingest: Arc<Ingest>, requests: Vec<Request>, key: Option<String>) -> anyhow::Result<()> {
    let body_hash = key.as_deref().map(|key| Fingerprint::of(key.as_bytes())).unwrap_or_default();
    let key = key.map(|key| IdempotencyKey { key, body_hash });
    // On a busy machine so many minutes at once may wait longer than the store lets them. With a key nothing counts twice.
    let mut tries_left = if key.is_some() { TRIES } else { 1 };
    loop {
        tries_left -= 1;
        match ingest.submit(parsed(&ingest, &requests)?, key.clone()).await {
            // Stopping while live traffic comes in is nothing to tell.
            Ok(_) | Err(IngestError::Stopping) => return Ok(()),
            Err(IngestError::Flush(_) | IngestError::QueueFull) if tries_left > 0 => {
                tokio::time::sleep(TRY_AGAIN_AFTER).await;
            }
            Err(error) => return Err(error).context("the demo's traffic"),
        }
    }
}

/// The requests as a body of the API would be read.
fn parsed(ingest: &Ingest, requests: &[Request]) -> anyhow::Result<Parsed> {
    let mut parsed = Parsed::default();
    let accepted = ingest.accepted_times();
    for request in requests {
        let trace_id = format!("{:032x}", request.trace_id);
        let fields = RecordFields {
            timestamp: Timestamp::Instant(request.timestamp),
            service: Some(request.service),
            method: request.method,
            target: Target::Route(request.route),
            status: i64::from(request.status),
            response_time_ms: Some(request.response_time_ms),
            trace_id: Some(&trace_id),
        };
        let taken = parsed.batch.push(&fields, accepted);
        taken.map_err(|error| anyhow::anyhow!("{}: {}", error.field.unwrap_or("record"), error.reason))?;
    }
    Ok(parsed)
}

fn key_of(minute: DateTime<Utc>) -> String {
    format!("{DEMO_KEYS}{}", minute.format("%Y-%m-%dT%H:%MZ"))
}

fn floor(instant: DateTime<Utc>, step: TimeDelta) -> DateTime<Utc> {
    // Fails only for instants centuries away.
    instant.duration_trunc(step).unwrap_or(instant)
}
