//! Connections to Redis, one server or a cluster, and how long anybody waits for it.
//!
//! A [`Visit`] is one conversation: one connection, one budget of time for all that is said. Redis that is silent for longer,
//! or gone, counts as having nothing; after some such visits in a row the breaker opens, and nobody waits until a probe in
//! the background finds Redis back.
//!
//! Connections are multiplexed, so a visit takes one from the pool, keeps a handle of it and puts it back at once: a visit that
//! lasts while Postgres works keeps nobody from Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_redis::cluster;
use deadpool_redis::{Config, Pool, PoolConfig, Runtime, Timeouts};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisFuture, RedisResult, ServerErrorKind,
    Value,
};

use super::breaker::{Admission, Breaker, Change};

/// All that a visit may wait for Redis, connection included. The promise is 50 ms; the rest is for the machine to notice.
const BUDGET: Duration = Duration::from_millis(40);

/// How long a new connection may take: TLS and the map of a cluster take some round trips.
const CONNECTED_WITHIN: Duration = Duration::from_secs(1);

/// How long a probe waits: nobody waits for it.
const PROBE: Duration = Duration::from_millis(500);

/// An address of Redis that is none.
#[derive(Debug, thiserror::Error)]
#[error(
    "REDIS_URL is not an address of Redis: redis://host:6379 or rediss:// (TLS), for a cluster redis+cluster://host1:6379,host2:6379"
)]
pub struct InvalidRedisUrl;

/// A Redis.
pub(super) struct Redis {
    address: Address,
    pool: Servers,
    breaker: Breaker,
}

/// Where it is; of a cluster, some of its nodes.
enum Address {
    One(String),
    Cluster(Vec<String>),
}

enum Servers {
    One(Pool),
    Cluster(cluster::Pool),
}

impl Redis {
    /// Prepares connections; dials when the first is needed.
    pub(super) fn new(url: &str, pool_max: usize) -> Result<Arc<Self>, InvalidRedisUrl> {
        let timeouts = Timeouts { wait: Some(BUDGET), create: Some(CONNECTED_WITHIN), recycle: Some(BUDGET) };
        let pool_config = PoolConfig { max_size: pool_max, timeouts, ..PoolConfig::default() };
        let runtime = Some(Runtime::Tokio1);
        let (address, pool) = if let Some(urls) = cluster_urls(url)? {
            let config = cluster::Config { pool: Some(pool_config), ..cluster::Config::from_urls(urls.clone()) };
            let pool = config.create_pool(runtime).map_err(|_| InvalidRedisUrl)?;
            (Address::Cluster(urls), Servers::Cluster(pool))
        } else {
            let config = Config { pool: Some(pool_config), ..Config::from_url(url) };
            let pool = config.create_pool(runtime).map_err(|_| InvalidRedisUrl)?;
            (Address::One(url.to_owned()), Servers::One(pool))
        };
        Ok(Arc::new(Self { address, pool, breaker: Breaker::new() }))
    }

    /// A connection that nobody else uses, for what may take longer than anybody's answer may wait: each reply may take so
    /// long. The breaker hears nothing of it.
    pub(super) async fn dial(&self, answered_within: Duration) -> RedisResult<Connection> {
        match &self.address {
            Address::One(url) => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(CONNECTED_WITHIN))
                    .set_response_timeout(Some(answered_within));
                let client = Client::open(url.as_str())?;
                Ok(Connection::One(client.get_multiplexed_async_connection_with_config(&config).await?))
            }
            Address::Cluster(urls) => {
                let client = ClusterClient::builder(urls.iter().map(String::as_str))
                    .connection_timeout(CONNECTED_WITHIN)
                    .response_timeout(answered_within)
                    .build()?;
                Ok(Connection::Cluster(Box::new(client.get_async_connection().await?)))
            }
        }
    }

    /// Opens `connections` at once, so that the first visits find them.
    pub(super) async fn warm_up(self: &Arc<Self>, connections: usize) {
        let redis = Arc::clone(self);
        // A task of its own, as in `visit`: a Redis that is slow goes on being dialled while the service answers, and one that
        // is silent holds up nobody's start.
        let dialled = tokio::spawn(async move {
            let dialled = futures_util::future::join_all((0..connections).map(|_| redis.pool.connection()));
            // Failing is no failure: the first visit finds out for itself.
            let _ = tokio::time::timeout(CONNECTED_WITHIN, dialled).await;
        });
        let _ = tokio::time::timeout(BUDGET, dialled).await;
    }

    /// Begins a visit; `None` where Redis is away.
    pub(super) async fn visit(self: &Arc<Self>) -> Option<Visit> {
        match self.breaker.admit(Instant::now()) {
            Admission::Closed => {}
            Admission::Open => return None,
            Admission::Probe => {
                let redis = Arc::clone(self);
                tokio::spawn(async move { redis.probe().await });
                return None;
            }
        }
        let began = Instant::now();
        // A task of its own: a connection that is not there in time goes on being made, and the next visit finds it.
        let redis = Arc::clone(self);
        let connecting = tokio::spawn(async move { redis.pool.connection().await });
        let Ok(Ok(Some(connection))) = tokio::time::timeout(BUDGET, connecting).await else {
            self.failed();
            return None;
        };
        Some(Visit { redis: Arc::clone(self), connection, left: BUDGET.saturating_sub(began.elapsed()) })
    }

    async fn probe(&self) {
        let ping = async {
            let mut connection = self.pool.connection().await?;
            redis::cmd("PING").query_async::<()>(&mut connection).await.ok()
        };
        match tokio::time::timeout(PROBE, ping).await {
            Ok(Some(())) => self.succeeded(),
            Ok(None) | Err(_) => self.failed(),
        }
    }

    fn succeeded(&self) {
        if self.breaker.succeeded() == Change::Closed {
            tracing::info!("Redis is back");
        }
    }

    fn failed(&self) {
        if self.breaker.failed(Instant::now()) == Change::Opened {
            tracing::warn!("Redis is away: answers come from the process and from Postgres");
        }
    }
}

impl Servers {
    async fn connection(&self) -> Option<Connection> {
        match self {
            Self::One(pool) => Some(Connection::One((*pool.get().await.ok()?).clone())),
            Self::Cluster(pool) => Some(Connection::Cluster(Box::new((*pool.get().await.ok()?).clone()))),
        }
    }
}

/// The nodes of `redis+cluster://…`, each as an address of its own; `None` for one server.
fn cluster_urls(url: &str) -> Result<Option<Vec<String>>, InvalidRedisUrl> {
    let (scheme, rest) = if let Some(rest) = url.strip_prefix("redis+cluster://") {
        ("redis", rest)
    } else if let Some(rest) = url.strip_prefix("rediss+cluster://") {
        ("rediss", rest)
    } else {
        return Ok(None);
    };
    let (credentials, hosts) = match rest.rsplit_once('@') {
        Some((credentials, hosts)) => (format!("{credentials}@"), hosts),
        None => (String::new(), rest),
    };
    let hosts = hosts.trim_end_matches('/');
    if hosts.is_empty() || hosts.contains('/') {
        return Err(InvalidRedisUrl);
    }
    Ok(Some(hosts.split(',').map(|host| format!("{scheme}://{credentials}{host}")).collect()))
}

/// Why there is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoReply {
    /// Redis refused this one thing: a value of another type, no room, no right to write.
    Refused,
    /// Redis is away, or the time is over.
    Away,
}

/// A conversation.
pub(super) struct Visit {
    redis: Arc<Redis>,
    connection: Connection,
    left: Duration,
}

impl Visit {
    /// Says one thing and waits for the reply.
    pub(super) async fn say<T: FromRedisValue>(
        &mut self,
        words: impl AsyncFnOnce(&mut Connection) -> RedisResult<T>,
    ) -> Result<T, NoReply> {
        let began = Instant::now();
        let reply = tokio::time::timeout(self.left, words(&mut self.connection)).await;
        self.left = self.left.saturating_sub(began.elapsed());
        match reply {
            Ok(Ok(reply)) => {
                self.redis.succeeded();
                Ok(reply)
            }
            Ok(Err(error)) if is_refusal(error.kind()) => {
                tracing::debug!(error = %error, "Redis refused");
                Err(NoReply::Refused)
            }
            Ok(Err(_)) | Err(_) => {
                self.redis.failed();
                Err(NoReply::Away)
            }
        }
    }

    /// A fresh budget, after a wait that was not for Redis.
    pub(super) fn go_on(&mut self) {
        self.left = BUDGET;
    }
}

/// Whether the server is well and only did not like what it was told.
pub(super) fn is_refusal(kind: ErrorKind) -> bool {
    use ServerErrorKind::{ExecAbort, NoPerm, NoScript, ReadOnly, ResponseError};
    match kind {
        ErrorKind::Extension | ErrorKind::UnexpectedReturnType | ErrorKind::Parse => true,
        ErrorKind::Server(kind) => matches!(kind, ResponseError | ExecAbort | NoScript | ReadOnly | NoPerm),
        _ => false,
    }
}

/// A handle of a connection that others use too.
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(Box<ClusterConnection>),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_told_by_its_scheme() {
        assert!(matches!(cluster_urls("redis://host:6379/2"), Ok(None)));
        let nodes = cluster_urls("rediss+cluster://me:p%40ss@a:1,b:2/").unwrap().unwrap();
        assert_eq!(nodes, ["rediss://me:p%40ss@a:1", "rediss://me:p%40ss@b:2"]);
        for wrong in ["redis+cluster://", "redis+cluster://a:1/0"] {
            assert!(cluster_urls(wrong).is_err(), "{wrong}");
        }
    }
}
