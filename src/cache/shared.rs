//! Answers in Redis, for all replicas.
//!
//! Each answer lies there twice: under a name with the generation of the data, for its shared lifetime; and under one without,
//! for a day, to be told where Postgres is away. A lock lets one replica at a time make an answer. It is only thrift: a
//! replica that waited long enough makes the answer anyway, and of two the newer stays.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use redis::{FromRedisValue, ParsingError, Script, Value};

use super::entry::{Entry, MADE_AT_OFFSET, MAX_BODY_BYTES, MAX_ENTRY_BYTES};
use super::key::{Key, Names, Namespace};
use super::lifetimes::{AHEAD, LAST_KNOWN_FOR};
use super::redis::{NoReply, Redis, Visit};

/// How long the right to make an answer holds: a little longer than a question may take in Postgres, so that the others go on
/// by themselves if its holder died.
const LOCKED_FOR: Duration = Duration::from_millis(3_500);

static TAKE_OR_LOCK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("take_or_lock.lua")));
static PUT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("put.lua")));
static UNLOCK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("unlock.lua")));

/// What a look into Redis found.
pub(super) enum Look {
    /// The answer.
    Found(Entry),
    /// Nothing, and it is ours to make.
    Ours,
    /// Nothing, and somebody else is at it.
    Theirs,
    /// Redis is away.
    Away,
}

/// A visit about one key.
pub(super) struct SharedCopy<'k> {
    visit: Visit,
    key: &'k Key,
    names: Names,
    /// Tells our lock from another's.
    token: String,
}

impl<'k> SharedCopy<'k> {
    /// Begins a visit; `None` where Redis is away.
    pub(super) async fn of(redis: &Arc<Redis>, namespace: &Namespace, key: &'k Key) -> Option<Self> {
        let visit = redis.visit().await?;
        Some(Self { visit, key, names: key.names(namespace), token: token() })
    }

    /// Takes the answer, or the right to make it.
    pub(super) async fn look(&mut self) -> Look {
        let Self { names: Names { entry, lock, .. }, token, .. } = self;
        let mut invocation = TAKE_OR_LOCK.key(&*entry);
        invocation.key(&*lock).arg(MAX_ENTRY_BYTES).arg(&*token).arg(millis(LOCKED_FOR));
        match self.visit.say(async |connection| invocation.invoke_async(connection).await).await {
            Ok(Taken::Ours) => Look::Ours,
            Ok(Taken::Theirs) => Look::Theirs,
            Ok(Taken::Bytes(bytes)) => match Entry::decode(self.key, &bytes) {
                // An answer of another generation cannot be under this name, unless somebody put it there.
                Some(entry) if entry.generation == self.key.generation() => Look::Found(entry),
                _ => {
                    tracing::warn!("an entry in Redis is damaged or not of this service, and is made anew");
                    Look::Ours
                }
            },
            // Redis is there and does not like us; the answer is made without it.
            Err(NoReply::Refused) => Look::Ours,
            Err(NoReply::Away) => Look::Away,
        }
    }

    /// A look after a wait that was not for Redis.
    pub(super) async fn look_again(&mut self) -> Look {
        self.visit.go_on();
        self.look().await
    }

    /// The answer last known, of any generation.
    pub(super) async fn last_known(&mut self) -> Option<Entry> {
        let mut command = redis::cmd("GETRANGE");
        command.arg(&self.names.last_known).arg(0).arg(MAX_ENTRY_BYTES);
        let bytes: Vec<u8> = self.visit.say(async |connection| command.query_async(connection).await).await.ok()?;
        Entry::decode(self.key, &bytes)
    }

    /// Keeps an answer for `lifetime` from `now` on, and gives up the right to make it.
    pub(super) async fn put(&mut self, entry: &Entry, lifetime: Duration, now: DateTime<Utc>) {
        if entry.body.plain().len() > MAX_BODY_BYTES {
            return self.unlock().await;
        }
        let Names { entry: name, last_known, lock } = &self.names;
        let mut invocation = PUT.key(name);
        invocation.key(last_known).key(lock).arg(entry.encode(self.key)).arg(millis(lifetime));
        invocation
            .arg(millis(LAST_KNOWN_FOR))
            .arg(MADE_AT_OFFSET)
            .arg(&self.token)
            .arg((now + AHEAD).timestamp_micros());
        let _ = self.visit.say(async |connection| invocation.invoke_async::<i32>(connection).await).await;
    }

    /// Gives up the right to make the answer.
    pub(super) async fn unlock(&mut self) {
        let mut invocation = UNLOCK.key(&self.names.lock);
        invocation.arg(&self.token);
        let _ = self.visit.say(async |connection| invocation.invoke_async::<i32>(connection).await).await;
    }
}

/// The reply of `take_or_lock.lua`.
enum Taken {
    Bytes(Vec<u8>),
    Ours,
    Theirs,
}

impl FromRedisValue for Taken {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        match value {
            Value::BulkString(bytes) => Ok(Self::Bytes(bytes)),
            value => Ok(if i64::from_redis_value(value)? == 1 { Self::Ours } else { Self::Theirs }),
        }
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// Another one each time, in each process.
fn token() -> String {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| {
        // The number of the process will do where there is no randomness; replicas in containers may share theirs.
        getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()))
    });
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{:x}-{}", *PROCESS, NEXT.fetch_add(1, Ordering::Relaxed))
}
