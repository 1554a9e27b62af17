//! The one transaction that stores records: raw rows, deltas, idempotency keys; all of it or nothing.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::PoisonError;
use std::time::Duration;

use chrono::{DateTime, DurationRound as _, NaiveDate, TimeDelta, Utc};
use sqlx::{Connection as _, PgConnection, Row as _};

use super::copy::CopyBody;
use super::{ANSWER, Horizons, Store, StoreError, sql, within};
use crate::domain::{Counters, EndpointId};

/// Longest wait for one `COPY`: a flush of the largest size takes some 200 ms here, and the disk may be busy.
const COPY: Duration = Duration::from_secs(6);

/// A transaction whose statements Postgres itself ends a little before [`COPY`] is over.
const BEGIN_FLUSH: &str = "BEGIN; SET LOCAL statement_timeout = '5500ms'";

/// Bytes of a raw row in `COPY`'s binary format, without its trace id.
const ROW_BYTES: usize = 60;

/// A record with its endpoint's number.
#[derive(Debug, Clone)]
pub struct RequestRow {
    /// When the request finished.
    pub timestamp: DateTime<Utc>,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Status, 100 to 599.
    pub status: u16,
    /// Response time, microseconds.
    pub response_time_us: Option<u64>,
    /// The trace it belongs to.
    pub trace_id: Option<Box<str>>,
}

/// The key under which a client sends a batch again until it is answered.
#[derive(Debug, Clone)]
pub struct BatchKey {
    /// The key.
    pub key: String,
    /// SHA-256 of the body.
    pub body_hash: [u8; 32],
    /// The answer to give now and to every repetition.
    pub answer: String,
}

/// Records that are stored together or not at all.
#[derive(Debug)]
pub struct FlushBatch {
    /// The records.
    pub rows: Vec<RequestRow>,
    /// The key, where the client gave one.
    pub key: Option<BatchKey>,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchOutcome {
    /// Stored and committed.
    Stored,
    /// Stored before under the same key: the answer given then. Nothing was stored now.
    Replayed(String),
    /// The key was used before for another body. Nothing was stored.
    KeyReused,
}

impl Store {
    /// Stores batches in one transaction; keys must differ between them. Returns after `COMMIT`, an outcome a batch.
    ///
    /// # Errors
    /// [`StoreError::CommitUnknown`] if the connection was lost while committing; any other error: nothing was stored.
    pub async fn flush(&self, batches: &[FlushBatch]) -> Result<Vec<BatchOutcome>, StoreError> {
        let horizons = self.horizons();
        let mut bodies = Bodies::of(batches.iter().flat_map(|batch| &batch.rows), horizons);
        self.ensure_days(&bodies.days).await?;

        let mut lease = self.lease().await?;
        let mut transaction = within(ANSWER, lease.connection().begin_with(BEGIN_FLUSH)).await?;
        let outcomes = claim_keys(&mut transaction, batches).await?;
        if outcomes.iter().any(|outcome| *outcome != BatchOutcome::Stored) {
            let fresh = batches.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == BatchOutcome::Stored);
            bodies = Bodies::of(fresh.flat_map(|(batch, _)| &batch.rows), horizons);
        }
        if let Some(deltas) = &bodies.deltas {
            if let Err(error) = copy(&mut transaction, &bodies.requests, sql::COPY_REQUESTS.sql).await {
                // Perhaps a day is gone that this process believes in; the next try looks again.
                self.known_days.lock().unwrap_or_else(PoisonError::into_inner).clear();
                return Err(error);
            }
            copy(&mut transaction, deltas, sql::COPY_DELTAS.sql).await?;
        }
        match within(ANSWER, transaction.commit()).await {
            Ok(()) => {}
            // Postgres refused: rolled back, for certain.
            Err(error @ (StoreError::StorageFull(_) | StoreError::Unexpected(_))) => return Err(error),
            Err(StoreError::Unavailable(error)) if error.as_database_error().is_some() => {
                return Err(StoreError::Unavailable(error));
            }
            Err(_) => return Err(StoreError::CommitUnknown),
        }
        lease.give_back();
        Ok(outcomes)
    }

    /// The keys in use that begin with `prefix`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keys_with_prefix(&self, prefix: &str) -> Result<HashSet<String>, StoreError> {
        let mut lease = self.lease().await?;
        let query = sqlx::query_scalar(sql::KEYS_WITH_PREFIX.sql).bind(prefix);
        let keys: Vec<String> = within(ANSWER, query.fetch_all(lease.connection())).await?;
        lease.give_back();
        Ok(keys.into_iter().collect())
    }

    /// Makes the partitions of `days` that are missing. Returns how many were made.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ensure_days(&self, days: &BTreeSet<NaiveDate>) -> Result<u64, StoreError> {
        let missing: Vec<NaiveDate> = {
            let known = self.known_days.lock().unwrap_or_else(PoisonError::into_inner);
            days.iter().filter(|day| !known.contains(day)).copied().collect()
        };
        if missing.is_empty() {
            return Ok(0);
        }
        let mut lease = self.lease().await?;
        let made: i64 =
            within(COPY, sqlx::query_scalar(sql::ENSURE_DAYS.sql).bind(&missing).fetch_one(lease.connection())).await?;
        lease.give_back();
        self.known_days.lock().unwrap_or_else(PoisonError::into_inner).extend(missing);
        Ok(made.unsigned_abs())
    }
}

/// What is copied, made before the transaction begins so that it is short.
struct Bodies {
    requests: Vec<u8>,
    /// `None` where there is no record at all.
    deltas: Option<Vec<u8>>,
    days: BTreeSet<NaiveDate>,
}

impl Bodies {
    fn of<'r>(rows: impl Iterator<Item = &'r RequestRow>, horizons: Horizons) -> Self {
        // Rows of one endpoint lie together: that is what makes BRIN indexes do for a btree.
        let mut sorted: Vec<&RequestRow> = rows.collect();
        sorted.sort_unstable_by_key(|row| (row.endpoint, row.timestamp));

        let mut requests = CopyBody::with_capacity(sorted.len() * ROW_BYTES);
        let mut deltas = CopyBody::with_capacity(0);
        let mut days = BTreeSet::new();
        let mut open: Option<(EndpointId, DateTime<Utc>, Counters)> = None;
        for row in &sorted {
            if horizons.raw_since.is_none_or(|since| row.timestamp >= since) {
                days.insert(row.timestamp.date_naive());
                write_request(&mut requests, row);
            }
            let bucket = bucket(row.timestamp, horizons);
            match &mut open {
                Some((endpoint, start, counters)) if (*endpoint, *start) == (row.endpoint, bucket) => {
                    counters.add(row.status, row.response_time_us);
                }
                _ => {
                    let mut counters = Counters::default();
                    counters.add(row.status, row.response_time_us);
                    if let Some(full) = open.replace((row.endpoint, bucket, counters)) {
                        write_delta(&mut deltas, &full);
                    }
                }
            }
        }
        let last = open.map(|last| write_delta(&mut deltas, &last));
        Self { requests: requests.finish(), deltas: last.map(|()| deltas.finish()), days }
    }
}

/// The minute; the hour where minutes are no longer kept.
fn bucket(instant: DateTime<Utc>, horizons: Horizons) -> DateTime<Utc> {
    let step = match horizons.minutes_since {
        Some(since) if instant < since => TimeDelta::hours(1),
        _ => TimeDelta::minutes(1),
    };
    // Fails only for instants centuries away, which parsing has refused.
    instant.duration_trunc(step).unwrap_or(instant)
}

fn write_request(body: &mut CopyBody, row: &RequestRow) {
    body.row(5)
        .timestamp(row.timestamp)
        .count(row.response_time_us)
        .integer(row.endpoint.0)
        // At most 599.
        .smallint(row.status as i16)
        .text(row.trace_id.as_deref());
}

fn write_delta(body: &mut CopyBody, (endpoint, bucket, counters): &(EndpointId, DateTime<Utc>, Counters)) {
    body.row(11).timestamp(*bucket).integer(endpoint.0).counters(counters);
}

async fn copy(connection: &mut PgConnection, body: &[u8], statement: &'static str) -> Result<(), StoreError> {
    within(COPY, async {
        let mut sink = connection.copy_in_raw(statement).await?;
        if let Err(error) = sink.send(body).await {
            // The first error is the one to tell; the connection is closed with the lease in any case.
            let _ = sink.abort("not sent whole").await;
            return Err(error);
        }
        sink.finish().await?;
        Ok(())
    })
    .await
}

/// Writes down the keys of the batches that have one, and says which batches are new.
async fn claim_keys(connection: &mut PgConnection, batches: &[FlushBatch]) -> Result<Vec<BatchOutcome>, StoreError> {
    let claimed: Vec<&BatchKey> = batches.iter().filter_map(|batch| batch.key.as_ref()).collect();
    if claimed.is_empty() {
        return Ok(vec![BatchOutcome::Stored; batches.len()]);
    }
    let keys: Vec<&str> = claimed.iter().map(|key| key.key.as_str()).collect();
    let hashes: Vec<&[u8]> = claimed.iter().map(|key| &key.body_hash[..]).collect();
    let answers: Vec<&str> = claimed.iter().map(|key| key.answer.as_str()).collect();
    let new: HashSet<String> = within(
        COPY,
        sqlx::query_scalar(sql::CLAIM_KEYS.sql).bind(&keys).bind(hashes).bind(answers).fetch_all(&mut *connection),
    )
    .await?
    .into_iter()
    .collect();
    let mut known: HashMap<String, (Vec<u8>, String)> = HashMap::new();
    if new.len() < claimed.len() {
        let rows = within(ANSWER, sqlx::query(sql::KNOWN_KEYS.sql).bind(&keys).fetch_all(&mut *connection)).await?;
        for row in rows {
            known.insert(row.try_get("idempotency_key")?, (row.try_get("body_hash")?, row.try_get("answer")?));
        }
    }
    batches
        .iter()
        .map(|batch| match &batch.key {
            Some(key) if !new.contains(&key.key) => match known.get(&key.key) {
                Some((hash, answer)) if hash[..] == key.body_hash => Ok(BatchOutcome::Replayed(answer.clone())),
                Some(_) => Ok(BatchOutcome::KeyReused),
                // Deleted between the two statements, as expired: the next try finds it free.
                None => Err(StoreError::Contended),
            },
            _ => Ok(BatchOutcome::Stored),
        })
        .collect()
}
