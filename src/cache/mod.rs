//! Finished answers, kept for a while: in the process, and in Redis for all replicas.
//!
//! Owns: the table of lifetimes, the key's namespace, connections to Redis. Uses: `domain`.
//!
//! Properties: Redis can only ever save work. It has `REDIS_DEADLINE` for each look-up and each write; away, slow or
//! holding garbage, it counts as having nothing. An entry carries the hash of its bytes, so what is cut or foreign is told
//! from an answer. One computation a key at a time in this process: whoever asks meanwhile waits for it.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use deadpool_redis::{Config, Pool, PoolConfig, Runtime, Timeouts};
use redis::AsyncCommands as _;

use crate::domain::{Fingerprint, Freshness};

/// Longest wait for Redis, connection included: about what a question costs without it.
const REDIS_DEADLINE: Duration = Duration::from_millis(50);

/// Names the form of keys and entries. Another form gets another number, so old and new replicas pass each other by.
const NAMESPACE: &str = "endpoint-stats:v1";

/// The largest answer that is shared. A larger entry in Redis was not written by us.
const MAX_BODY_BYTES: usize = 8 << 20;

/// Bytes of the hash and the time in front of an entry's body.
const ENTRY_HEAD: usize = 32 + 8;

/// How long answers live, by freshness. The one table of lifetimes.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// Of answers that reach into the current hour.
    pub live: Duration,
    /// Of answers about closed hours.
    pub recent: Duration,
    /// Of answers about closed days.
    pub settled: Duration,
}

impl Lifetimes {
    /// In Redis and at the client (`max-age`).
    #[must_use]
    pub fn shared(&self, freshness: Freshness) -> Duration {
        match freshness {
            Freshness::Live => self.live,
            Freshness::Recent => self.recent,
            Freshness::Settled => self.settled,
        }
    }

    /// In the process, from when it got there: an answer from Redis may outlive its shared lifetime by so much, which its
    /// `Age` tells. A live answer lives a second, so that replicas behind one balancer do not contradict each other.
    fn local(&self, freshness: Freshness) -> Duration {
        match freshness {
            Freshness::Live => Duration::from_secs(1),
            Freshness::Recent => Duration::from_secs(60).min(self.recent),
            Freshness::Settled => Duration::from_secs(600).min(self.settled),
        }
    }
}

/// Where the caches are and how large.
#[derive(Clone)]
pub struct CacheConfig {
    /// Redis' address; `None`: the in-process cache alone.
    pub redis_url: Option<String>,
    /// Connections to Redis at most.
    pub pool_max: usize,
    /// Bytes of answers kept in the process.
    pub local_bytes: u64,
    /// How long answers live.
    pub lifetimes: Lifetimes,
}

impl Default for CacheConfig {
    /// A small cache in the process alone.
    fn default() -> Self {
        let lifetimes = Lifetimes {
            live: Duration::from_secs(60),
            recent: Duration::from_secs(30 * 60),
            settled: Duration::from_secs(12 * 60 * 60),
        };
        Self { redis_url: None, pool_max: 1, local_bytes: 1 << 20, lifetimes }
    }
}

/// A finished answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The bytes to send.
    pub body: Bytes,
    /// Of the bytes.
    pub fingerprint: Fingerprint,
    /// When it was made.
    pub made_at: DateTime<Utc>,
    /// What it is about.
    pub freshness: Freshness,
}

impl Entry {
    /// An answer made at `made_at`.
    #[must_use]
    pub fn new(body: Bytes, made_at: DateTime<Utc>, freshness: Freshness) -> Self {
        Self { fingerprint: Fingerprint::of(&body), body, made_at, freshness }
    }

    fn encode(&self) -> Vec<u8> {
        let freshness = match self.freshness {
            Freshness::Live => 0,
            Freshness::Recent => 1,
            Freshness::Settled => 2u8,
        };
        let mut bytes = Vec::with_capacity(ENTRY_HEAD + 1 + self.body.len());
        bytes.extend_from_slice(self.fingerprint.as_bytes());
        bytes.extend_from_slice(&self.made_at.timestamp_micros().to_be_bytes());
        bytes.push(freshness);
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// `None` for bytes that are no entry of ours, whole and unchanged.
    fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > ENTRY_HEAD + 1 + MAX_BODY_BYTES {
            return None;
        }
        let (head, rest) = bytes.split_at_checked(ENTRY_HEAD)?;
        let (stored, micros) = head.split_at(32);
        let made_at = DateTime::from_timestamp_micros(i64::from_be_bytes(micros.try_into().ok()?))?;
        let (&freshness, body) = rest.split_first()?;
        let freshness = match freshness {
            0 => Freshness::Live,
            1 => Freshness::Recent,
            2 => Freshness::Settled,
            _ => return None,
        };
        let entry = Self::new(Bytes::copy_from_slice(body), made_at, freshness);
        (entry.fingerprint.as_bytes() == stored).then_some(entry)
    }
}

/// Both caches.
pub struct Cache {
    local: moka::future::Cache<String, Entry>,
    redis: Option<Pool>,
    lifetimes: Lifetimes,
}

/// An address of Redis that is none.
#[derive(Debug, thiserror::Error)]
#[error("REDIS_URL is not an address of a Redis server")]
pub struct InvalidRedisUrl;

impl Cache {
    /// Prepares the caches; dials Redis when it is first needed.
    ///
    /// # Errors
    /// [`InvalidRedisUrl`].
    pub fn new(config: &CacheConfig) -> Result<Self, InvalidRedisUrl> {
        let redis = config.redis_url.as_ref().map(|url| pool(url, config.pool_max)).transpose()?;
        let local = moka::future::Cache::builder()
            .max_capacity(config.local_bytes)
            .weigher(|key: &String, entry: &Entry| {
                u32::try_from(key.len() + entry.body.len() + 128).unwrap_or(u32::MAX)
            })
            .expire_after(LocalLifetime(config.lifetimes))
            .build();
        Ok(Self { local, redis, lifetimes: config.lifetimes })
    }

    /// The table of lifetimes.
    #[must_use]
    pub fn lifetimes(&self) -> &Lifetimes {
        &self.lifetimes
    }

    /// The answer under `key`, made by `make` where there is none, and whether it was there.
    ///
    /// # Errors
    /// What `make` returns; it is not kept.
    pub async fn get_or_make<E: Send + Sync + 'static>(
        &self,
        key: &str,
        make: impl Future<Output = Result<Entry, E>>,
    ) -> Result<(Entry, bool), Arc<E>> {
        let mut made = false;
        let entry = self
            .local
            .try_get_with_by_ref(key, async {
                if let Some(entry) = self.shared(key).await {
                    return Ok(entry);
                }
                made = true;
                let entry = make.await?;
                self.share(key, &entry).await;
                Ok(entry)
            })
            .await?;
        Ok((entry, !made))
    }

    /// Puts a new answer in place of whatever is there.
    pub async fn replace(&self, key: &str, entry: &Entry) {
        self.local.insert(key.to_owned(), entry.clone()).await;
        self.share(key, entry).await;
    }

    async fn shared(&self, key: &str) -> Option<Entry> {
        let pool = self.redis.as_ref()?;
        let bytes = with_redis(async {
            let mut connection = pool.get().await.ok()?;
            connection.get::<_, Option<Vec<u8>>>(shared_key(key)).await.ok()?
        })
        .await?;
        Entry::decode(&bytes)
    }

    async fn share(&self, key: &str, entry: &Entry) {
        let Some(pool) = self.redis.as_ref().filter(|_| entry.body.len() <= MAX_BODY_BYTES) else { return };
        let seconds = self.lifetimes.shared(entry.freshness).as_secs().max(1);
        with_redis(async {
            let mut connection = pool.get().await.ok()?;
            connection.set_ex::<_, _, ()>(shared_key(key), entry.encode(), seconds).await.ok()
        })
        .await;
    }
}

/// Keys may hold what a client wrote, of any length; their hash does not.
fn shared_key(key: &str) -> String {
    format!("{NAMESPACE}:{}", Fingerprint::of(key.as_bytes()))
}

async fn with_redis<T>(work: impl Future<Output = Option<T>>) -> Option<T> {
    let found = tokio::time::timeout(REDIS_DEADLINE, work).await;
    if found.is_err() {
        tracing::debug!("Redis did not answer in time");
    }
    found.ok().flatten()
}

fn pool(url: &str, max: usize) -> Result<Pool, InvalidRedisUrl> {
    let mut config = Config::from_url(url);
    let timeouts = Timeouts { wait: Some(REDIS_DEADLINE), create: Some(REDIS_DEADLINE), recycle: Some(REDIS_DEADLINE) };
    config.pool = Some(PoolConfig { max_size: max, timeouts, ..PoolConfig::default() });
    config.create_pool(Some(Runtime::Tokio1)).map_err(|_| InvalidRedisUrl)
}

/// Tells moka when an entry goes.
struct LocalLifetime(Lifetimes);

impl moka::Expiry<String, Entry> for LocalLifetime {
    fn expire_after_create(&self, _key: &String, entry: &Entry, _created_at: Instant) -> Option<Duration> {
        Some(self.0.local(entry.freshness))
    }

    fn expire_after_update(
        &self,
        _key: &String,
        entry: &Entry,
        _updated_at: Instant,
        _duration_until_expiry: Option<Duration>,
    ) -> Option<Duration> {
        Some(self.0.local(entry.freshness))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry::new(Bytes::from_static(b"{}"), DateTime::from_timestamp_micros(1).unwrap(), Freshness::Recent)
    }

    #[test]
    fn an_entry_is_read_back_whole_or_not_at_all() {
        let bytes = entry().encode();
        assert_eq!(Entry::decode(&bytes), Some(entry()));
        for cut in 0..bytes.len() {
            assert_eq!(Entry::decode(&bytes[..cut]), None, "cut at {cut}");
        }
        let mut foreign = bytes;
        *foreign.last_mut().unwrap() ^= 1;
        assert_eq!(Entry::decode(&foreign), None);
        assert_eq!(Entry::decode(b"some other program's value, long enough to have a head"), None);
    }

    #[tokio::test]
    async fn a_failure_is_not_kept_and_a_success_is() {
        let cache = Cache::new(&CacheConfig::default()).unwrap();
        assert_eq!(cache.get_or_make("k", async { Err::<Entry, _>("no") }).await, Err(Arc::new("no")));
        assert_eq!(cache.get_or_make("k", async { Ok::<_, &str>(entry()) }).await, Ok((entry(), false)));
        assert_eq!(cache.get_or_make("k", async { Err::<Entry, _>("no") }).await, Ok((entry(), true)));
    }
}
