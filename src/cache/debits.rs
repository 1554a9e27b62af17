//! What clients were admitted, counted in Redis for all replicas.

use std::sync::{Arc, LazyLock};

use redis::Script;

use super::key::Namespace;
use super::redis::Redis;
use crate::domain::{Fingerprint, MOST_AHEAD_US, Tat};

static DEBIT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("debit.lua")));

/// The theoretical arrival times that replicas share.
pub struct Debits {
    redis: Arc<Redis>,
    namespace: Namespace,
}

impl Debits {
    pub(super) fn new(redis: Arc<Redis>, namespace: Namespace) -> Self {
        Self { redis, namespace }
    }

    /// Tells that `client` was admitted requests that take `cost_us`, and hears the time that counts those of all replicas.
    /// `None` where Redis is away; then it may or may not have been counted.
    pub async fn debit(&self, client: Fingerprint, now_us: i64, cost_us: i64) -> Option<Tat> {
        let mut visit = self.redis.visit().await?;
        let mut invocation = DEBIT.key(self.namespace.rate(client));
        invocation.arg(now_us).arg(cost_us).arg(MOST_AHEAD_US);
        let tat = visit.say(async |connection| invocation.invoke_async(connection).await).await.ok()?;
        Some(Tat::at_us(tat))
    }
}
