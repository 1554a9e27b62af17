//! Removing from Redis what nobody will ask for again.
//!
//! Redis forgets every answer by itself, an answer about closed days after half a day. That is long for one that is of no use
//! any more: whenever late records change a closed day, the generation moves, and all answers of the generation before lie
//! there with their bodies until their time is over, beside those of the version before an upgrade. Where late records keep
//! coming, a question asked all day leaves a body for each generation; and a Redis that is full may drop a good one instead.
//!
//! Properties:
//! - Only names that are read as strictly as they are written go ([`Namespace::is_done_with`]). Other installations, other
//!   programs, what is newer, locks and rates are let be.
//! - Readers are kept from nothing: a connection of its own, pieces of a millisecond (`SCAN`, never `KEYS`; `UNLINK`, so that
//!   large things are freed beside the work), and no word to the breaker.
//! - Stopping between two pieces leaves nothing half done; the next sweep begins anew.
//!
//! Of a cluster each primary is scanned, and what is removed goes by its slot, so a slot that moves meanwhile does no harm:
//! its names may be missed this time.

use std::collections::HashMap;
use std::time::Duration;

use redis::cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo, SingleNodeRoutingInfo};
use redis::{FromRedisValue, RedisError, RedisResult};

use super::Cache;
use super::key::{Namespace, PATTERN};
use super::redis::{Connection, is_refusal};

/// Names that Redis goes over for one piece: some 0.3 ms of its time.
const SCANNED_AT_ONCE: u32 = 1_000;

/// Names removed by one command. `UNLINK` still frees plain texts within the command, a large one in some 10 µs.
const REMOVED_AT_ONCE: usize = 100;

/// How long a reply may take: nobody waits for it, but a job should not hang on a Redis that does.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// How far a sweep has come, or came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Keys looked at whose names begin as those of this service do. Redis may tell of one twice.
    pub seen: u64,
    /// Keys removed.
    pub removed: u64,
}

/// A sweep that has begun. It goes on piece by piece, as long as it is asked to.
pub struct Sweep<'c> {
    namespace: &'c Namespace,
    generation: i64,
    /// None without Redis.
    connection: Option<Connection>,
    /// Those that are not done; the last is at hand.
    servers: Vec<Server>,
    /// Where the next keys of the server at hand begin.
    cursor: u64,
    swept: Swept,
}

/// Why a sweep came to no end. What it removed until then is gone; the next one begins anew.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// Redis, or one primary of the cluster, cannot be reached.
    #[error("Redis cannot be reached: {0}")]
    Away(String),
    /// It is silent.
    #[error("Redis has not answered for {} s", ANSWERED_WITHIN.as_secs())]
    Silent,
    /// It does not let us: a user without the right to, a server that may only be read.
    #[error("Redis refuses to tell or remove its keys: {0}")]
    Refused(String),
}

impl From<RedisError> for SweepError {
    fn from(error: RedisError) -> Self {
        if error.is_timeout() {
            Self::Silent
        } else if is_refusal(error.kind()) {
            Self::Refused(error.to_string())
        } else {
            Self::Away(error.to_string())
        }
    }
}

impl Cache {
    /// Begins to remove from Redis the answers of this installation that are of a generation before `generation`, the present
    /// one, or of an older version of service or schema. Without Redis there is nothing to do.
    ///
    /// # Errors
    /// [`SweepError`], within some seconds, where Redis is away, hung or refusing.
    pub async fn sweep(&self, generation: i64) -> Result<Sweep<'_>, SweepError> {
        let namespace = &self.namespace;
        let mut sweep =
            Sweep { namespace, generation, connection: None, servers: Vec::new(), cursor: 0, swept: Swept::default() };
        if let Some(redis) = &self.redis {
            let mut connection = answered(redis.dial(ANSWERED_WITHIN)).await?;
            sweep.servers = answered(servers(&mut connection)).await?;
            sweep.connection = Some(connection);
        }
        Ok(sweep)
    }
}

impl Sweep<'_> {
    /// Does the next piece, and tells how far it has come; `None` at the end.
    ///
    /// # Errors
    /// [`SweepError`], as above.
    pub async fn piece(&mut self) -> Result<Option<Swept>, SweepError> {
        let (Some(connection), Some(server)) = (&mut self.connection, self.servers.last()) else { return Ok(None) };
        let (next, names) = answered(scan(connection, server, self.cursor)).await?;
        let done_with = |name: &Vec<u8>| self.namespace.is_done_with(name, self.generation);
        self.swept.seen += names.len() as u64;
        let done_with: Vec<Vec<u8>> = names.into_iter().filter(done_with).collect();
        for names in done_with.chunks(REMOVED_AT_ONCE) {
            self.swept.removed += answered(unlink(connection, names)).await?;
        }
        self.cursor = next;
        if next == 0 {
            self.servers.pop();
        }
        Ok(Some(self.swept))
    }
}

async fn answered<T>(reply: impl Future<Output = RedisResult<T>>) -> Result<T, SweepError> {
    let reply = tokio::time::timeout(ANSWERED_WITHIN, reply).await;
    Ok(reply.map_err(|_| SweepError::Silent)??)
}

/// A server that holds keys; of one that is alone there is nothing to say.
enum Server {
    Alone,
    Primary { host: String, port: u16 },
}

/// The servers among which all keys are divided.
async fn servers(connection: &mut Connection) -> RedisResult<Vec<Server>> {
    let Connection::Cluster(cluster) = connection else { return Ok(vec![Server::Alone]) };
    let mut command = redis::cmd("CLUSTER");
    command.arg("INFO");
    let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, Some(ResponsePolicy::Special)));
    let told: HashMap<String, String> = read(cluster.route_command(command, all).await?)?;
    // Of a primary to which there is no connection nothing is told: then others say how many there are.
    let size = |info: &String| info.lines().find_map(|line| line.strip_prefix("cluster_size:")?.parse().ok());
    if told.values().filter_map(size).max().is_some_and(|primaries: usize| primaries > told.len()) {
        return Err((redis::ErrorKind::ClusterConnectionNotFound, "a primary of the cluster is away").into());
    }
    let primary = |address: &String| {
        let (host, port) = address.rsplit_once(':')?;
        Some(Server::Primary { host: host.to_owned(), port: port.parse().ok()? })
    };
    let primaries: Option<Vec<Server>> = told.keys().map(primary).collect();
    primaries.ok_or_else(|| (redis::ErrorKind::Parse, "a primary of the cluster has no address").into())
}

/// The names of the next keys of a server, and where the ones after them begin; 0 where there are no more.
async fn scan(connection: &mut Connection, server: &Server, cursor: u64) -> RedisResult<(u64, Vec<Vec<u8>>)> {
    let mut command = redis::cmd("SCAN");
    command.arg(cursor).arg("MATCH").arg(PATTERN).arg("COUNT").arg(SCANNED_AT_ONCE);
    match (connection, server) {
        (Connection::Cluster(cluster), Server::Primary { host, port }) => {
            let there = SingleNodeRoutingInfo::ByAddress { host: host.clone(), port: *port };
            read(cluster.route_command(command, RoutingInfo::SingleNode(there)).await?)
        }
        (connection, _) => command.query_async(connection).await,
    }
}

/// Removes keys, on a cluster each where its slot is, and tells how many were still there.
async fn unlink(connection: &mut Connection, names: &[Vec<u8>]) -> RedisResult<u64> {
    redis::cmd("UNLINK").arg(names).query_async(connection).await
}

fn read<T: FromRedisValue>(value: redis::Value) -> RedisResult<T> {
    Ok(T::from_redis_value(value.extract_error()?)?)
}
