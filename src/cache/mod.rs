//! Finished answers, kept for a while: in the process, and in Redis for all replicas. Two caches behind one door.
//!
//! Owns: the table of lifetimes, names in Redis, connections to it, and what else lies there: the count by which replicas share
//! rate limits. Uses: `domain`.
//!
//! Properties:
//! - Redis can only ever save work. All that an answer waits for it is 50 ms; away, slow or holding garbage, it counts as
//!   having nothing. An entry carries the hash of its bytes and of its question, so what is cut, changed or moved is told from
//!   an answer.
//! - An answer is made once: in the process whoever asks meanwhile waits for it, or is told the old answer if that is not
//!   much too old; between replicas a lock in Redis does the same.
//! - Of two answers the one that was begun later stays, whichever ends first.
//! - A key contains the generation of the data: when a closed day changes, its old answers are no longer found.
//! - What cannot be made, Postgres being away, is told as last known, for a day, and marked.
//!
//! | file | holds |
//! |---|---|
//! | `lifetimes` | how long answers live, by freshness: the one table |
//! | `key` | under which names an answer is kept |
//! | `entry` | an answer, and its form in Redis |
//! | `encodings` | its compressed forms, each made once |
//! | `redis` | connections, the budget of time, the breaker |
//! | `shared` | looking, locking and putting in Redis |
//! | `turns` | those who want the present state: one answer at a time, and one after it for all who wait |
//! | `sweep` | removing from Redis what nobody will ask for again |
//! | `debits` | what clients were admitted, for the rate limits of all replicas |
//! | `trouble` | whether Postgres is left alone for a moment |

mod breaker;
mod debits;
mod encodings;
mod entry;
mod key;
mod lifetimes;
mod redis;
mod shared;
mod sweep;
mod trouble;
mod turns;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};

pub use debits::Debits;
pub use encodings::{Body, Encoding};
pub use entry::Entry;
pub use key::{Key, Name, Namespace};
pub use lifetimes::{Lifetime, Lifetimes};
pub use redis::InvalidRedisUrl;
pub use sweep::{Sweep, SweepError, Swept};

use lifetimes::LAST_KNOWN_FOR;
use redis::Redis;
use shared::{Look, SharedCopy};
use trouble::Trouble;
use turns::Turns;

/// How often a replica looks whether another has made the answer: about what making one takes.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(15);

/// How long it does so before it makes the answer itself: as long as a statement may take. Whoever asked has 5 s in all.
const OTHERS_HAVE: Duration = Duration::from_secs(3);

/// How long the outcome of a flight stays where those who came during it find it. It is taken out at once; this is for a
/// flight whose leader was cut off in between.
const LANDED_FOR: Duration = Duration::from_secs(1);

/// Where the caches are and how large.
#[derive(Clone)]
pub struct CacheConfig {
    /// Redis' address; `None`: the in-process cache alone.
    pub redis_url: Option<String>,
    /// Connections to Redis that are opened at the start.
    pub pool_min: usize,
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
        Self { redis_url: None, pool_min: 0, pool_max: 1, local_bytes: 1 << 20, lifetimes: Lifetimes::default() }
    }
}

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was there.
    Found,
    /// It was made for this request.
    Made,
    /// It was there and is out of date: a new one is being made, or cannot be.
    Stale,
}

/// Why an answer could not be made, where that is nobody's mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// The database cannot be reached: others need not try.
    Away,
    /// It did not answer this in time.
    Slow,
}

/// Both caches.
pub struct Cache {
    /// By question, of any generation.
    local: moka::future::Cache<Name, LocalCopy>,
    /// Answers under way, by question and generation.
    flights: moka::future::Cache<(Name, i64), (Entry, Origin)>,
    turns: Turns,
    redis: Option<Arc<Redis>>,
    namespace: Namespace,
    lifetimes: Lifetimes,
    trouble: Trouble,
    pool_min: usize,
}

/// An answer in the process.
#[derive(Debug, Clone)]
struct LocalCopy {
    entry: Entry,
    arrived_at: DateTime<Utc>,
    /// Whether somebody is at making a newer one.
    renewing: Arc<AtomicBool>,
}

/// The right, among all in this process who hold the same old answer, to have a new one made.
struct Renewal(Arc<AtomicBool>);

impl LocalCopy {
    fn is_being_renewed(&self) -> bool {
        self.renewing.load(Ordering::Acquire)
    }

    fn claim(&self) -> Option<Renewal> {
        (!self.renewing.swap(true, Ordering::AcqRel)).then(|| Renewal(Arc::clone(&self.renewing)))
    }
}

impl Drop for Renewal {
    /// However it ended: if there is a new answer, nobody asks the old one; if not, the next one tries.
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Cache {
    /// Prepares the caches; Redis need not be there.
    ///
    /// # Errors
    /// [`InvalidRedisUrl`].
    pub fn new(config: &CacheConfig, namespace: Namespace) -> Result<Self, InvalidRedisUrl> {
        let redis = config.redis_url.as_ref().map(|url| Redis::new(url, config.pool_max)).transpose()?;
        let local = moka::future::Cache::builder()
            .max_capacity(config.local_bytes)
            .weigher(|question: &Name, copy: &LocalCopy| {
                // Twice the body: its compressed forms together are smaller than it is.
                u32::try_from(question.len() + 2 * copy.entry.body.plain().len() + 256).unwrap_or(u32::MAX)
            })
            .time_to_live(LAST_KNOWN_FOR)
            .build();
        let flights = moka::future::Cache::builder().time_to_live(LANDED_FOR).build();
        let (lifetimes, pool_min) = (config.lifetimes, config.pool_min);
        let turns = Turns::new();
        Ok(Self { local, flights, turns, redis, namespace, lifetimes, trouble: Trouble::default(), pool_min })
    }

    /// Opens the connections to Redis that are kept open.
    pub async fn warm_up(&self) {
        if let Some(redis) = &self.redis {
            redis.warm_up(self.pool_min).await;
        }
    }

    /// Where replicas count together what clients were admitted; `None` without Redis.
    #[must_use]
    pub fn debits(&self) -> Option<Debits> {
        self.redis.as_ref().map(|redis| Debits::new(Arc::clone(redis), self.namespace.clone()))
    }

    /// The table of lifetimes.
    #[must_use]
    pub fn lifetimes(&self) -> &Lifetimes {
        &self.lifetimes
    }

    /// The answer to `question` about `generation` that is in this process and may be told at `now`; an old one only while
    /// somebody is at making a newer one. Waits for nobody.
    pub async fn at_hand(&self, question: &Name, generation: i64, now: DateTime<Utc>) -> Option<(Entry, Origin)> {
        let copy = self.local_copy(question, generation).await?;
        if self.is_current(&copy, now) {
            return Some((copy.entry, Origin::Found));
        }
        (self.lifetimes.is_in_grace(&copy.entry, now) && copy.is_being_renewed())
            .then(|| self.told_old(copy.entry, now))
    }

    /// The answer under `key` that is in this process and good at `now`.
    async fn current(&self, key: &Key, now: DateTime<Utc>) -> Option<Entry> {
        let copy = self.local_copy(key.question(), key.generation()).await?;
        self.is_current(&copy, now).then_some(copy.entry)
    }

    /// The answer in this process, if it was made from this generation; however old.
    async fn local_copy(&self, question: &Name, generation: i64) -> Option<LocalCopy> {
        let copy = self.local.get(question).await?;
        (copy.entry.generation == generation).then_some(copy)
    }

    fn is_current(&self, copy: &LocalCopy, now: DateTime<Utc>) -> bool {
        self.lifetimes.is_current(&copy.entry, copy.arrived_at, now)
    }

    /// The answer under `key` at `now`, made by `make` where there is none. Where `make` fails and `outage` takes that for an
    /// outage, the answer last known.
    ///
    /// # Errors
    /// What `make` returns; it is not kept.
    pub async fn get_or_make<E: Send + Sync + 'static>(
        &self,
        key: &Key,
        now: DateTime<Utc>,
        make: impl Future<Output = Result<Entry, E>>,
        outage: impl Fn(&E) -> Option<Outage>,
    ) -> Result<(Entry, Origin), Arc<E>> {
        let mut renewal = None;
        if let Some(copy) = self.local_copy(key.question(), key.generation()).await {
            if self.is_current(&copy, now) {
                return Ok((copy.entry, Origin::Found));
            }
            if self.lifetimes.is_in_grace(&copy.entry, now) {
                renewal = copy.claim();
                if renewal.is_none() {
                    return Ok(self.told_old(copy.entry, now));
                }
            }
        }
        if !self.trouble.lets_through(now) {
            let mut shared = if self.local.contains_key(key.question()) { None } else { self.shared(key).await };
            if let Some(known) = self.last_known(key, now, shared.as_mut()).await {
                return Ok(known);
            }
        }

        // Whoever comes while this is on its way waits here, and is told what it brings.
        let (mut led, mut made) = (false, false);
        let flight = (key.question().clone(), key.generation());
        let landed = self
            .flights
            .try_get_with_by_ref(&flight, async {
                led = true;
                let landed = self.find_or_make(key, now, make, outage).await?;
                made = landed.1 == Origin::Made;
                Ok(landed)
            })
            .await;
        if led {
            self.flights.invalidate(&flight).await;
        }
        drop(renewal);
        landed.map(|(entry, origin)| match origin {
            Origin::Made if !made => (entry, Origin::Found),
            origin => (entry, origin),
        })
    }

    /// An answer that is begun only now, whatever the caches hold, and takes the place of what is older in them.
    ///
    /// # Errors
    /// What `make` returns.
    pub async fn make_anew<E>(
        &self,
        key: &Key,
        now: DateTime<Utc>,
        make: impl Future<Output = Result<Entry, E>>,
    ) -> Result<(Entry, Origin), E> {
        let make = async {
            let entry = make.await?;
            self.trouble.end();
            self.keep(key, &entry, now).await;
            if let Some(mut shared) = self.shared(key).await {
                shared.put(&entry, self.lifetimes.left(&entry, now), now).await;
            }
            Ok(entry)
        };
        let (entry, made) = self.turns.take(key.question(), make).await?;
        Ok((entry, if made { Origin::Made } else { Origin::Found }))
    }

    async fn find_or_make<E>(
        &self,
        key: &Key,
        now: DateTime<Utc>,
        make: impl Future<Output = Result<Entry, E>>,
        outage: impl Fn(&E) -> Option<Outage>,
    ) -> Result<(Entry, Origin), E> {
        // Between this caller's first look and here another flight may have landed.
        if let Some(entry) = self.current(key, now).await {
            return Ok((entry, Origin::Found));
        }
        let mut shared = self.shared(key).await;
        if let Some(shared) = &mut shared
            && let Some(entry) = self.await_others(shared, now).await
        {
            let newer = self.keep(key, &entry, now).await;
            return Ok((newer.unwrap_or(entry), Origin::Found));
        }
        match make.await {
            Ok(made) => {
                self.trouble.end();
                // Another may have been begun later and be here first; or a read replica made this one, and the primary that.
                // Whoever asked may have been told that one already.
                let (entry, origin) = match self.keep(key, &made, now).await {
                    Some(newer) => (newer, Origin::Found),
                    None => (made, Origin::Made),
                };
                if let Some(shared) = &mut shared {
                    shared.put(&entry, self.lifetimes.left(&entry, now), now).await;
                }
                Ok((entry, origin))
            }
            Err(error) => {
                if let Some(shared) = &mut shared {
                    shared.unlock().await;
                }
                let Some(outage) = outage(&error) else { return Err(error) };
                if outage == Outage::Away {
                    self.trouble.begin(now);
                }
                self.last_known(key, now, shared.as_mut()).await.ok_or(error)
            }
        }
    }

    /// The answer that another replica has made or is making; `None` where it is ours to make.
    async fn await_others(&self, shared: &mut SharedCopy<'_>, now: DateTime<Utc>) -> Option<Entry> {
        let began = tokio::time::Instant::now();
        let mut look = shared.look().await;
        loop {
            match look {
                // Redis forgets in time; what a clock or a restored dump kept too long counts for nothing.
                Look::Found(entry) if self.lifetimes.is_shared(&entry, now) => return Some(entry),
                Look::Theirs if began.elapsed() < OTHERS_HAVE => {}
                Look::Found(_) | Look::Ours | Look::Theirs | Look::Away => return None,
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            look = shared.look_again().await;
        }
    }

    /// The answer last known, of whatever generation, here or, on a visit that is under way, in Redis.
    async fn last_known(
        &self,
        key: &Key,
        now: DateTime<Utc>,
        shared: Option<&mut SharedCopy<'_>>,
    ) -> Option<(Entry, Origin)> {
        let known = |entry: &Entry| lifetimes::is_known(entry, now);
        let here = self.local.get(key.question()).await.map(|copy| copy.entry).filter(known);
        let entry = match (here, shared) {
            (Some(entry), _) => entry,
            (None, Some(shared)) => {
                let entry = shared.last_known().await.filter(known)?;
                self.keep(key, &entry, now).await;
                entry
            }
            (None, None) => return None,
        };
        let is_of_now = entry.generation == key.generation();
        let origin = if is_of_now { self.origin_of_old(&entry, now) } else { Origin::Stale };
        Some((entry, origin))
    }

    /// An old answer that is still within the time that clients were told is as good as any.
    fn origin_of_old(&self, entry: &Entry, now: DateTime<Utc>) -> Origin {
        if self.lifetimes.is_shared(entry, now) { Origin::Found } else { Origin::Stale }
    }

    fn told_old(&self, entry: Entry, now: DateTime<Utc>) -> (Entry, Origin) {
        let origin = self.origin_of_old(&entry, now);
        (entry, origin)
    }

    async fn shared<'k>(&self, key: &'k Key) -> Option<SharedCopy<'k>> {
        SharedCopy::of(self.redis.as_ref()?, &self.namespace, key).await
    }

    /// Keeps an answer in the process, unless a newer one is there. That one is returned, if it is of the key's generation;
    /// nothing newer being to be had, it stays as if it had just arrived.
    async fn keep(&self, key: &Key, entry: &Entry, now: DateTime<Utc>) -> Option<Entry> {
        let copy = LocalCopy { entry: entry.clone(), arrived_at: now, renewing: Arc::default() };
        let kept = self
            .local
            .entry_by_ref(key.question())
            .and_upsert_with(async |held| match held.map(moka::Entry::into_value) {
                Some(held) if lifetimes::outdoes(&held.entry, &copy.entry, now) => {
                    LocalCopy { arrived_at: held.arrived_at.max(now), ..held }
                }
                _ => copy,
            })
            .await
            .into_value()
            .entry;
        (kept.made_at != entry.made_at && kept.generation == key.generation()).then_some(kept)
    }
}
