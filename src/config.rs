//! Options: plain data, one struct a concern. The doc comments are the manual: they are what `--help` prints.
//!
//! Every option that takes a value is an environment variable too. Secrets (addresses with passwords) are never printed.

mod maintenance;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::TimeDelta;
use clap::{Args, ValueEnum};
use ipnet::IpNet;

use crate::cache::{CacheConfig, Lifetimes};
use crate::ingest::IngestConfig;
use crate::jobs::Retention;
use crate::limits::{LimitsConfig, MAX_PER_SECOND};
use crate::store::{EndpointCaps, ReplicaConfig, StoreConfig};

pub use maintenance::MaintenanceOptions;

/// The database.
#[derive(Args, Clone)]
pub struct DatabaseOptions {
    /// Address of the Postgres database (15 or newer), such as postgres://user:password@host:5432/name
    #[arg(long, env, hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,

    /// Connections to Postgres that are kept open
    #[arg(long, env, default_value_t = 5, value_name = "N")]
    pub database_pool_min: u32,

    /// Connections to Postgres at most
    #[arg(long, env, default_value_t = 20, value_name = "N")]
    pub database_pool_max: u32,
}

impl DatabaseOptions {
    /// The address.
    ///
    /// # Errors
    /// One that says what is missing.
    pub fn url(&self) -> anyhow::Result<&str> {
        self.database_url.as_deref().filter(|url| !url.is_empty()).context(
            "DATABASE_URL is missing: set it to the address of a Postgres database, such as \
             postgres://user:password@localhost:5432/stats, or try `endpoint-stats demo`, which brings its own",
        )
    }

    /// What the store needs.
    ///
    /// # Errors
    /// For options that contradict each other or are missing.
    pub fn store(&self) -> anyhow::Result<StoreConfig> {
        if self.database_pool_max == 0 || self.database_pool_min > self.database_pool_max {
            bail!("DATABASE_POOL_MIN must be at most DATABASE_POOL_MAX, and that at least 1");
        }
        Ok(StoreConfig {
            url: self.url()?.to_owned(),
            pool_min: self.database_pool_min,
            pool_max: self.database_pool_max,
        })
    }
}

/// A read replica of the database.
#[derive(Args, Clone)]
pub struct ReplicaOptions {
    /// Address of a read replica of the database, which questions are asked while it is near enough; without it all go to
    /// the database itself
    #[arg(long, env, hide_env_values = true, value_name = "URL")]
    pub database_read_url: Option<String>,

    /// How far behind the read replica may be; at least 2s, since its state is dated once a second
    #[arg(long, env, default_value = "10s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub database_read_max_lag: Duration,
}

impl ReplicaOptions {
    /// What the store needs for the replica of `store`, which gets as many connections; `None` without one.
    ///
    /// # Errors
    /// For a lag that would never let it answer.
    pub fn replica(&self, store: &StoreConfig) -> anyhow::Result<Option<ReplicaConfig>> {
        let Some(url) = self.database_read_url.clone().filter(|url| !url.is_empty()) else { return Ok(None) };
        if self.database_read_max_lag < Duration::from_secs(2) {
            bail!("DATABASE_READ_MAX_LAG must be at least 2s: a replica's state is dated once a second");
        }
        let max_lag = limited(self.database_read_max_lag).unwrap_or(TimeDelta::MAX);
        Ok(Some(ReplicaConfig { url, pool_min: store.pool_min, pool_max: store.pool_max, max_lag }))
    }
}

/// The caches.
#[derive(Args, Clone)]
pub struct CacheOptions {
    /// Address of the Redis that replicas share: redis://host:6379, rediss:// for TLS, redis+cluster://host1:6379,host2:6379
    /// for a cluster; without it each has its own cache only
    #[arg(long, env, hide_env_values = true, value_name = "URL")]
    pub redis_url: Option<String>,

    /// Connections to Redis that are opened at the start
    #[arg(long, env, default_value_t = 2, value_name = "N")]
    pub redis_pool_min: usize,

    /// Connections to Redis at most
    #[arg(long, env, default_value_t = 10, value_name = "N")]
    pub redis_pool_max: usize,

    /// How long an answer lives that reaches into the current hour
    #[arg(long, env, default_value = "60s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub cache_ttl_live: Duration,

    /// How long an answer lives that is about closed hours
    #[arg(long, env, default_value = "30min", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub cache_ttl_recent: Duration,

    /// How long an answer lives that is about whole closed days
    #[arg(long, env, default_value = "12h", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub cache_ttl_settled: Duration,
}

/// Memory for answers in the process: some thousand rankings, an eighth of what the service may use in all.
const LOCAL_CACHE_BYTES: u64 = 16 << 20;

impl CacheOptions {
    /// What the cache needs.
    #[must_use]
    pub fn cache(&self) -> CacheConfig {
        CacheConfig {
            redis_url: self.redis_url.clone().filter(|url| !url.is_empty()),
            pool_min: self.redis_pool_min.min(self.redis_pool_max),
            pool_max: self.redis_pool_max.max(1),
            local_bytes: LOCAL_CACHE_BYTES,
            lifetimes: Lifetimes {
                live: self.cache_ttl_live,
                recent: self.cache_ttl_recent,
                settled: self.cache_ttl_settled,
            },
        }
    }
}

/// What is taken in, and how long it is kept.
#[derive(Args, Clone)]
pub struct DataOptions {
    /// Age up to which single requests are kept, by whole days; 0 for any
    #[arg(long, env, default_value = "30d", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub retention_raw: Duration,

    /// Age up to which minutes are kept, older records count by the hour; 0 for any
    #[arg(long, env, default_value = "48h", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub retention_minutes: Duration,

    /// Age up to which hours and days are kept; 0 for any
    #[arg(long, env, default_value = "400d", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub retention_hours: Duration,

    /// The oldest records that are taken; 0 for any
    #[arg(long, env, default_value = "400d", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub ingest_max_age: Duration,

    /// Endpoints a service may have; the records of further ones count under the route {other}
    #[arg(long, env, default_value_t = 2_000, value_name = "N")]
    pub max_endpoints_per_service: u32,

    /// Services there may be; the records of further ones count under the service {other}
    #[arg(long, env, default_value_t = 500, value_name = "N")]
    pub max_services: u32,

    /// Endpoints of all services there may be; further ones count under {other} as well
    #[arg(long, env, default_value_t = 50_000, value_name = "N")]
    pub max_endpoints: u32,

    /// Records that may wait to be stored at once, some 60 bytes each; more are answered 429
    #[arg(long, env, default_value_t = 400_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000), value_name = "N")]
    pub ingest_queue_records: u32,
}

impl DataOptions {
    /// What ingest needs.
    #[must_use]
    pub fn ingest(&self) -> IngestConfig {
        IngestConfig {
            max_age: limited(self.ingest_max_age),
            caps: EndpointCaps {
                per_service: self.max_endpoints_per_service,
                services: self.max_services,
                total: self.max_endpoints,
            },
            queue_records: self.ingest_queue_records,
        }
    }

    /// What maintenance needs.
    ///
    /// # Errors
    /// For times so short that they are a mistake: what is past its keep is gone for good.
    pub fn retention(&self) -> anyhow::Result<Retention> {
        const HOUR: Duration = Duration::from_secs(3_600);
        for (name, keep, least, words) in [
            ("RETENTION_RAW", self.retention_raw, 24 * HOUR, "1d"),
            ("RETENTION_MINUTES", self.retention_minutes, HOUR, "1h"),
            ("RETENTION_HOURS", self.retention_hours, 24 * HOUR, "1d"),
        ] {
            if !keep.is_zero() && keep < least {
                bail!(
                    "{name} must be at least {words}, or 0 for ever: what is older is deleted and does not come back"
                );
            }
        }
        Ok(Retention {
            raw: limited(self.retention_raw),
            minutes: limited(self.retention_minutes),
            hours: limited(self.retention_hours),
        })
    }
}

/// Zero means no limit, and so does a time longer than any calendar.
fn limited(time: Duration) -> Option<TimeDelta> {
    const LONGEST: Duration = Duration::from_secs(1_000 * 366 * 86_400);
    (!time.is_zero() && time <= LONGEST).then(|| TimeDelta::from_std(time).ok()).flatten()
}

/// What one client may ask for.
#[derive(Args, Clone)]
pub struct LimitOptions {
    /// Questions a second that one client may ask, and twice as many at once; 0 for any number
    #[arg(long, env, default_value_t = 1_000, value_parser = rate(), value_name = "N")]
    pub rate_limit_read: u32,

    /// Batches of records a second that one client may send, and twice as many at once; 0 for any number
    #[arg(long, env, default_value_t = 2_000, value_parser = rate(), value_name = "N")]
    pub rate_limit_ingest: u32,

    /// Proxies whose X-Forwarded-For says where a request comes from: networks or addresses, such as 10.0.0.0/8,192.0.2.7
    #[arg(long, env, value_parser = networks, value_name = "NETWORKS")]
    pub trusted_proxies: Option<Networks>,
}

/// Networks, and addresses as networks of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl LimitOptions {
    /// What the limits need.
    #[must_use]
    pub fn limits(&self) -> LimitsConfig {
        LimitsConfig::per_second(self.rate_limit_read, self.rate_limit_ingest)
    }

    /// Whose word is taken on where a request comes from.
    #[must_use]
    pub fn trusted_proxies(&self) -> Vec<IpNet> {
        self.trusted_proxies.clone().unwrap_or_default().0
    }
}

fn rate() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(..=i64::from(MAX_PER_SECOND))
}

fn networks(text: &str) -> Result<Networks, String> {
    let network = |text: &str| {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse().or_else(|_| address()).map_err(|_| format!("`{text}` is neither a network nor an address"))
    };
    let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
    texts.map(network).collect::<Result<_, _>>().map(Networks)
}

/// The API.
#[derive(Args, Clone)]
pub struct ServeOptions {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, env, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// Certificate to show to clients, PEM, those of its issuers after it; with --tls-key the API speaks TLS and nothing else
    #[arg(long, env, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// Key of the certificate, PEM (PKCS#8, PKCS#1 or SEC1); both files are read again when they change
    #[arg(long, env, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Whether requests need an API key; `endpoint-stats keys create` makes keys
    #[arg(long, env, default_value = "required", value_name = "WHETHER")]
    pub auth: Auth,

    /// With --auth off: listen on an address that is not loopback although anyone who reaches it may read and write
    #[arg(long)]
    pub i_know_auth_is_off: bool,

    /// The largest body of records, bytes, compressed or not
    #[arg(long, env, default_value_t = 16 << 20, value_parser = clap::value_parser!(u64).range(1_024..=(1 << 30)), value_name = "BYTES")]
    pub max_body_bytes: u64,

    /// Whether this replica runs maintenance
    #[arg(long, env, default_value = "on", value_name = "WHETHER")]
    pub jobs: Switch,

    /// Whether the schema is brought up to date first
    #[arg(long, env = "MIGRATE", default_value = "on", value_name = "WHETHER")]
    pub migrate: Switch,
}

/// Where the log goes.
#[derive(Args, Clone)]
pub struct LogOptions {
    /// Directory for log files, lines of JSON, one file a day (UTC) called endpoint-stats.2026-11-21.log; without it the log
    /// goes to stdout
    #[arg(long, env, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,

    /// Age up to which log files are kept; 0 for any
    #[arg(long, env, default_value = "14d", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub log_keep: Duration,
}

impl LogOptions {
    /// The directory, if the log is to go into files.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        self.log_dir.as_deref().filter(|dir| !dir.as_os_str().is_empty())
    }

    /// How long log files are kept; `None`: for ever.
    #[must_use]
    pub fn keep(&self) -> Option<TimeDelta> {
        limited(self.log_keep)
    }
}

/// Whether requests need an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Auth {
    /// They do.
    Required,
    /// They do not.
    Off,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

impl ServeOptions {
    /// The certificate and its key, where the API is to speak TLS.
    ///
    /// # Errors
    /// If only one of them is given.
    pub fn tls(&self) -> anyhow::Result<Option<(PathBuf, PathBuf)>> {
        let given = |file: &Option<PathBuf>| file.clone().filter(|file| !file.as_os_str().is_empty());
        match (given(&self.tls_cert), given(&self.tls_key)) {
            (Some(certificates), Some(key)) => Ok(Some((certificates, key))),
            (None, None) => Ok(None),
            (Some(_), None) => bail!("TLS_CERT is set and TLS_KEY is not: set both, or none for plain HTTP"),
            (None, Some(_)) => bail!("TLS_KEY is set and TLS_CERT is not: set both, or none for plain HTTP"),
        }
    }

    /// Refuses what would not be safe.
    ///
    /// # Errors
    /// One that says what to do instead.
    pub fn validate(&self) -> anyhow::Result<()> {
        if self.auth == Auth::Off && !self.listen.ip().is_loopback() && !self.i_know_auth_is_off {
            bail!(
                "{} can be reached from other machines, and with AUTH=off anyone there may read and write; leave AUTH at \
                 required, listen on 127.0.0.1, or add --i-know-auth-is-off",
                self.listen
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_address_is_a_missing_one() {
        let database_url = Some(String::new());
        let options = DatabaseOptions { database_url, database_pool_min: 5, database_pool_max: 20 };
        assert!(options.url().unwrap_err().to_string().starts_with("DATABASE_URL is missing"));
    }

    #[test]
    fn proxies_are_networks_and_addresses() {
        let proxies = networks("10.0.0.0/8, 192.0.2.7,2001:db8::/32,").unwrap().0;
        let told: Vec<String> = proxies.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]);
        assert_eq!(networks(""), Ok(Networks::default()));
        for wrong in ["10.0.0.0/33", "proxy.example", "10.0.0.1:80", "10.0.0.0/8 10.1.0.0/16"] {
            assert!(networks(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_retention_that_can_only_be_a_mistake_is_refused() {
        use clap::FromArgMatches as _;
        let retention = |arguments: &[&str]| {
            let command = DataOptions::augment_args(clap::Command::new("test"));
            let arguments = [&["test"], arguments].concat();
            DataOptions::from_arg_matches(&command.get_matches_from(arguments)).unwrap().retention()
        };
        assert!(retention(&["--retention-raw=1d", "--retention-minutes=1h", "--retention-hours=1d"]).is_ok());
        let for_ever = retention(&["--retention-raw=0s", "--retention-minutes=0s", "--retention-hours=0s"]).unwrap();
        assert!(for_ever.raw.or(for_ever.minutes).or(for_ever.hours).is_none());
        // Thirteen minutes, where months were meant.
        let error = retention(&["--retention-hours=13m"]).unwrap_err().to_string();
        assert!(error.starts_with("RETENTION_HOURS must be at least 1d"), "{error}");
        assert!(retention(&["--retention-raw=23h"]).is_err() && retention(&["--retention-minutes=59m"]).is_err());
    }

    #[test]
    fn zero_is_for_ever() {
        assert_eq!(limited(Duration::ZERO), None);
        assert_eq!(limited(Duration::from_secs(86_400)), Some(TimeDelta::days(1)));
        assert_eq!(limited(Duration::MAX), None);
    }
}
