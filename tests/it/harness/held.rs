//! A table or a key that a test holds, so that a service waits at a known place for as long as the test needs.

use super::{Database, until};

/// A lock on a table or a key, held until this is dropped with its connection or [released](Self::release).
pub struct Held(tokio_postgres::Client);

impl Held {
    pub async fn on(database: &Database, table: &str) -> Self {
        let client = database.connect().await;
        client.batch_execute(&format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")).await.unwrap();
        Self(client)
    }

    /// As another replica in the middle of storing a batch with this key.
    pub async fn idempotency_key(database: &Database, key: &str) -> Self {
        let client = database.connect().await;
        let claim =
            format!("BEGIN; INSERT INTO ingest_batches (idempotency_key, body_hash, answer) VALUES ('{key}', '', '')");
        client.batch_execute(&claim).await.unwrap();
        Self(client)
    }

    /// How many statements of services wait for a lock.
    pub async fn waiting(&self) -> i64 {
        let statement = "SELECT count(*) FROM pg_stat_activity
                         WHERE datname = current_database() AND wait_event_type = 'Lock'
                           AND application_name = 'endpoint-stats'";
        self.0.query_one(statement, &[]).await.unwrap().get(0)
    }

    /// Waits until a statement of a service waits for it.
    pub async fn reached(&self) {
        until("a statement waits for the lock", async || self.waiting().await > 0).await;
    }

    pub async fn release(self) {
        self.0.batch_execute("ROLLBACK").await.unwrap();
    }
}
