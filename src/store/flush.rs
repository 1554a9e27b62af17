//! The one transaction that stores records: raw rows, deltas, idempotency keys; all of it or nothing.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, DurationRound as _, NaiveDate, TimeDelta, Utc};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{Connection as _, PgConnection, Postgres, Row as _};

use super::copy::CopyBody;
use super::rows::Numeric;
use super::{ANSWER, Horizons, Store, StoreError, sql, within};
use crate::domain::{Counters, EndpointId, Fingerprint, encode_unsigned};

/// Longest wait for one `COPY`: a flush of the largest size takes some 200 ms here, and the disk may be busy.
const COPY: Duration = Duration::from_secs(6);

/// A transaction whose statements Postgres itself ends a little before [`COPY`] is over.
const BEGIN_FLUSH: &str = "BEGIN; SET LOCAL statement_timeout = '5500ms'";

/// Raw rows from which `COPY` is worth its second message: sqlx does not set TCP_NODELAY, so that message waits up to 40 ms
/// for the server's acknowledgement of the first.
const COPY_FROM_ROWS: usize = 2_000;

/// Days made in one statement. What was made stays, so a batch that spans hundreds of missing days, which take longer than
/// one statement may, gets on with every try.
const DAYS_AT_ONCE: usize = 16;

/// Bytes of a `COPY` that are made and sent at a time: what the caches of a processor hold, and nothing beside the rows
/// themselves however many there are.
const COPY_PIECE_BYTES: usize = 128 * 1_024;

/// The longest raw row in `COPY`'s binary format, with the longest trace id.
const ROW_BYTES_MAX: usize = 256;

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
    /// Of the body.
    pub body_hash: Fingerprint,
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
        let flushed = self.try_flush(batches).await;
        if !flushed.as_ref().is_err_and(StoreError::is_missing_day) {
            return flushed;
        }
        // Retention has dropped a day that this process believes in, having been told of an older horizon, perhaps before it
        // was paused. With the present one the rows of that day are left out and their counts go in.
        self.advance_horizons(Horizons::default(), false).await?;
        self.try_flush(batches).await
    }

    async fn try_flush(&self, batches: &[FlushBatch]) -> Result<Vec<BatchOutcome>, StoreError> {
        let horizons = self.horizons();
        let mut data = FlushData::of(batches.iter().flat_map(|batch| &batch.rows), horizons);
        self.ensure_days(&data.days).await?;

        let mut lease = self.lease().await?;
        let mut transaction = within(ANSWER, lease.connection().begin_with(BEGIN_FLUSH)).await?;
        let outcomes = claim_keys(&mut transaction, batches).await?;
        if outcomes.iter().any(|outcome| *outcome != BatchOutcome::Stored) {
            let fresh = batches.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == BatchOutcome::Stored);
            data = FlushData::of(fresh.flat_map(|(batch, _)| &batch.rows), horizons);
        }
        if let Err(error) = data.write(&mut transaction).await {
            // Perhaps a day is gone that this process believes in; the next try looks again.
            self.known_days.lock().unwrap_or_else(PoisonError::into_inner).clear();
            return Err(error);
        }
        match within(ANSWER, transaction.commit()).await {
            Ok(()) => {}
            Err(error) if error.is_rolled_back() => return Err(error),
            Err(_) => return Err(StoreError::CommitUnknown),
        }
        lease.give_back();
        self.deltas_written.fetch_add(data.deltas.len() as u64, Ordering::Relaxed);
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

    /// Makes the partitions of `days` that are missing, unless they are no longer kept. Returns how many were made.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ensure_days(&self, days: &BTreeSet<NaiveDate>) -> Result<u64, StoreError> {
        let missing: Vec<NaiveDate> = {
            let known = self.known_days.lock().unwrap_or_else(PoisonError::into_inner);
            days.iter().filter(|day| !known.contains(day)).copied().collect()
        };
        let mut made = 0;
        for days in missing.chunks(DAYS_AT_ONCE) {
            let mut lease = self.lease().await?;
            let query = sqlx::query_scalar::<_, i64>(sql::ENSURE_DAYS.sql).bind(days);
            made += within(ANSWER, query.fetch_one(lease.connection())).await?.unsigned_abs();
            lease.give_back();
            self.known_days.lock().unwrap_or_else(PoisonError::into_inner).extend(days);
        }
        Ok(made)
    }
}

/// What a flush writes, made before the transaction begins so that it is short.
struct FlushData<'r> {
    /// The rows to keep, those of one endpoint together: that is what makes BRIN indexes do for a btree.
    requests: Vec<&'r RequestRow>,
    /// Counts by endpoint and bucket.
    deltas: Vec<(EndpointId, DateTime<Utc>, Counters)>,
    /// The days of `requests`.
    days: BTreeSet<NaiveDate>,
}

impl<'r> FlushData<'r> {
    fn of(rows: impl Iterator<Item = &'r RequestRow>, horizons: Horizons) -> Self {
        let rows: Vec<&RequestRow> = rows.collect();
        // Endpoint, instant and position of each as one number: numbers side by side are sorted several times as fast as
        // rows all over the memory. No flush has 2^32 rows.
        let mut order: Vec<u128> = (0..).zip(&rows).map(|(position, row)| sort_key(row, position)).collect();
        order.sort_unstable();
        let mut requests: Vec<&RequestRow> = order.iter().map(|key| rows[*key as u32 as usize]).collect();
        drop((rows, order));

        // In this order the rows of one bucket lie together.
        let mut deltas: Vec<(EndpointId, DateTime<Utc>, Counters)> = Vec::new();
        let mut open: Option<(EndpointId, Range<DateTime<Utc>>)> = None;
        for row in &requests {
            if open.as_ref().is_none_or(|(endpoint, times)| *endpoint != row.endpoint || row.timestamp >= times.end) {
                let bucket = bucket(row.timestamp, horizons);
                deltas.push((row.endpoint, bucket.start, Counters::default()));
                open = Some((row.endpoint, bucket));
            }
            if let Some((_, _, counters)) = deltas.last_mut() {
                counters.add(row.status, row.response_time_us);
            }
        }
        let mut days: BTreeSet<NaiveDate> = deltas.iter().map(|(_, bucket, _)| bucket.date_naive()).collect();
        if let Some(since) = horizons.raw_since {
            requests.retain(|row| row.timestamp >= since);
            // A midnight, so that a day is kept as a whole or not at all.
            days.retain(|day| *day >= since.date_naive());
        }
        Self { requests, deltas, days }
    }

    async fn write(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let query = if self.requests.len() >= COPY_FROM_ROWS || self.requests.is_empty() {
            if !self.requests.is_empty() {
                copy_requests(connection, &self.requests).await?;
            }
            sqlx::query(sql::INSERT_DELTAS.sql)
        } else {
            bind_requests(sqlx::query(sql::INSERT_FLUSH.sql), &self.requests)
        };
        if self.deltas.is_empty() {
            return Ok(());
        }
        within(COPY, bind_deltas(query, &self.deltas).execute(connection)).await.map(drop)
    }
}

/// Sorts by endpoint, then instant; the lowest 32 bits are the position.
fn sort_key(row: &RequestRow, position: u32) -> u128 {
    // Neither is ever negative: endpoints are counted from 1, and there are no records of before 1970.
    let (endpoint, instant) = (row.endpoint.0.cast_unsigned(), row.timestamp.timestamp_micros().cast_unsigned());
    u128::from(endpoint) << 96 | u128::from(instant) << 32 | u128::from(position)
}

/// The minute; the hour where minutes are no longer kept.
fn bucket(instant: DateTime<Utc>, horizons: Horizons) -> Range<DateTime<Utc>> {
    let step = match horizons.minutes_since {
        Some(since) if instant < since => TimeDelta::hours(1),
        _ => TimeDelta::minutes(1),
    };
    // Fails only for instants centuries away, which parsing has refused.
    let start = instant.duration_trunc(step).unwrap_or(instant);
    start..start + step
}

/// A count, or microseconds, as a `bigint`. 2^63 of either do not happen; held back rather than wrapped.
fn bigint(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// At most 599.
fn smallint(status: u16) -> i16 {
    status as i16
}

async fn copy_requests(connection: &mut PgConnection, rows: &[&RequestRow]) -> Result<(), StoreError> {
    within(COPY, async {
        let mut sink = connection.copy_in_raw(sql::COPY_REQUESTS.sql).await?;
        let sent = async {
            let mut body = CopyBody::with_capacity(COPY_PIECE_BYTES);
            for row in rows {
                body.request(
                    row.timestamp,
                    row.response_time_us.map(bigint),
                    row.endpoint.0,
                    smallint(row.status),
                    row.trace_id.as_deref(),
                );
                if body.bytes().len() >= COPY_PIECE_BYTES - ROW_BYTES_MAX {
                    sink.send(body.bytes()).await?;
                    body.clear();
                }
            }
            body.finish();
            sink.send(body.bytes()).await.map(drop)
        };
        if let Err(error) = sent.await {
            // The first error is the one to tell; the connection is closed with the lease in any case.
            let _ = sink.abort("not sent whole").await;
            return Err(error);
        }
        sink.finish().await?;
        Ok(())
    })
    .await
}

type Statement<'q> = Query<'q, Postgres, PgArguments>;

fn bind_requests<'q>(query: Statement<'q>, rows: &[&'q RequestRow]) -> Statement<'q> {
    query
        .bind(rows.iter().map(|row| row.timestamp).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.response_time_us.map(bigint)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.endpoint.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| smallint(row.status)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.trace_id.as_deref()).collect::<Vec<_>>())
}

fn bind_deltas<'q>(query: Statement<'q>, deltas: &[(EndpointId, DateTime<Utc>, Counters)]) -> Statement<'q> {
    let counts = |count: fn(&Counters) -> u64| deltas.iter().map(|(.., counters)| bigint(count(counters))).collect();
    let times =
        |time: fn(&Counters) -> Option<u64>| deltas.iter().map(|(.., counters)| time(counters).map(bigint)).collect();
    let numerics = |encode: fn(&Counters, &mut Vec<u8>)| {
        let encoded = deltas.iter().map(|(.., counters)| {
            let mut bytes = Vec::new();
            encode(counters, &mut bytes);
            Numeric(bytes)
        });
        encoded.collect()
    };
    query
        .bind(deltas.iter().map(|(_, bucket, _)| *bucket).collect::<Vec<_>>())
        .bind(deltas.iter().map(|(endpoint, ..)| endpoint.0).collect::<Vec<_>>())
        .bind::<Vec<i64>>(counts(|counters| counters.request_count))
        .bind::<Vec<i64>>(counts(|counters| counters.redirect_count))
        .bind::<Vec<i64>>(counts(|counters| counters.client_error_count))
        .bind::<Vec<i64>>(counts(|counters| counters.error_count))
        .bind::<Vec<i64>>(counts(|counters| counters.timed_count))
        .bind::<Vec<Numeric<Vec<u8>>>>(numerics(|counters, out| encode_unsigned(counters.total_response_time_us, out)))
        .bind::<Vec<Option<i64>>>(times(|counters| counters.min_response_time_us))
        .bind::<Vec<Option<i64>>>(times(|counters| counters.max_response_time_us))
        .bind::<Vec<Numeric<Vec<u8>>>>(numerics(|counters, out| counters.latency_histogram.encode(out)))
}

/// Writes down the keys of the batches that have one, and says which batches are new.
async fn claim_keys(connection: &mut PgConnection, batches: &[FlushBatch]) -> Result<Vec<BatchOutcome>, StoreError> {
    let claimed: Vec<&BatchKey> = batches.iter().filter_map(|batch| batch.key.as_ref()).collect();
    if claimed.is_empty() {
        return Ok(vec![BatchOutcome::Stored; batches.len()]);
    }
    let keys: Vec<&str> = claimed.iter().map(|key| key.key.as_str()).collect();
    let hashes: Vec<&[u8]> = claimed.iter().map(|key| &key.body_hash.as_bytes()[..]).collect();
    let answers: Vec<&str> = claimed.iter().map(|key| key.answer.as_str()).collect();
    // Whoever delivers the same batch at the same moment is done in milliseconds, or is in trouble.
    within(ANSWER, sqlx::query("SET LOCAL lock_timeout = '1500ms'").execute(&mut *connection)).await?;
    let claim = sqlx::query_scalar(sql::CLAIM_KEYS.sql).bind(&keys).bind(hashes).bind(answers);
    let new: Vec<String> = within(COPY, claim.fetch_all(&mut *connection))
        .await
        .map_err(|error: StoreError| if error.is_lock_timeout() { StoreError::KeyHeld } else { error })?;
    let new: HashSet<String> = new.into_iter().collect();
    within(ANSWER, sqlx::query("SET LOCAL lock_timeout = 0").execute(&mut *connection)).await?;
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
                Some((hash, answer)) if hash == key.body_hash.as_bytes() => Ok(BatchOutcome::Replayed(answer.clone())),
                Some(_) => Ok(BatchOutcome::KeyReused),
                // Deleted between the two statements, as expired: the next try finds it free.
                None => Err(StoreError::Contended),
            },
            _ => Ok(BatchOutcome::Stored),
        })
        .collect()
}
