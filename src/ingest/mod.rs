//! Taking records in: from the bytes of a body to the answer after `COMMIT`.
//!
//! Owns: reading bodies into batches ([`read_json`], [`read_ndjson`]), the numbers of endpoints, the bounded queue and
//! the writer that empties it. Uses: `store`, `domain`.
//!
//! Design: a submission resolves its endpoints, takes room in the queue and waits. The writer takes whatever has gathered
//! as soon as one of a few flushes is free, so a lone request waits for nobody and a crowd shares one transaction. Nobody
//! waits without end: no room is said at once, and a flush has deadlines in the store.

mod answer;
mod body;
mod plain;
mod record;
mod registry;
mod scalar;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use answer::{Answer, IngestAnswer, RecordError};
pub use body::{InvalidBody, Parsed, read_json, read_ndjson};
pub use record::Record;
pub use writer::FlushFailure;

use crate::domain::{AcceptedTimes, Clock, Fingerprint};
use crate::store::{BatchKey, BatchOutcome, EndpointCaps, RequestRow, Store};
use registry::Registry;
use writer::{Submission, Writer};

/// Longest wait for the end of a flush, its second try included.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(10);

/// Submissions that may wait at once; more than any number of connections that send records.
const QUEUED_SUBMISSIONS: usize = 4_096;

/// What is taken in, and how much at a time.
#[derive(Debug, Clone, Copy)]
pub struct IngestConfig {
    /// The oldest records taken; `None`: any.
    pub max_age: Option<chrono::TimeDelta>,
    /// How many endpoints and services there may be.
    pub caps: EndpointCaps,
    /// Records that may wait at once; a record takes some 60 bytes.
    pub queue_records: u32,
}

/// Why a batch was not stored, or is not known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// Too many records wait already.
    #[error("the queue is full")]
    QueueFull,
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// The key was used for another body.
    #[error("the idempotency key was used for another body")]
    KeyReused,
    /// The database failed.
    #[error(transparent)]
    Flush(#[from] FlushFailure),
}

/// The key of a request and the hash of its body.
#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    /// As the client wrote it.
    pub key: String,
    /// Of the body after decompression.
    pub body_hash: Fingerprint,
}

/// The way in for records.
pub struct Ingest {
    config: IngestConfig,
    clock: Clock,
    registry: Registry,
    queue: mpsc::Sender<Submission>,
    room: Arc<Semaphore>,
}

impl Ingest {
    /// Starts the writer. It ends, everything flushed, some time after `stop` is cancelled: await the handle.
    #[must_use]
    pub fn start(
        store: Arc<Store>,
        clock: Clock,
        config: IngestConfig,
        stop: CancellationToken,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, submissions) = mpsc::channel(QUEUED_SUBMISSIONS);
        let writer = tokio::spawn(Writer::new(Arc::clone(&store)).run(submissions, stop));
        let room = Arc::new(Semaphore::new(config.queue_records as usize));
        (Self { config, clock, registry: Registry::new(store, config.caps), queue, room }, writer)
    }

    /// The times from which records are taken now.
    #[must_use]
    pub fn accepted_times(&self) -> AcceptedTimes {
        AcceptedTimes::at(self.clock.now(), self.config.max_age)
    }

    /// Whether there is no room for a single record: a body need not be read to be refused.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.room.available_permits() == 0 || self.queue.capacity() == 0
    }

    /// Stores the records of a body and returns the answer to it, after `COMMIT`.
    ///
    /// # Errors
    /// [`IngestError`]; nothing was stored, except perhaps after [`FlushFailure::CommitUnknown`].
    pub async fn submit(&self, parsed: Parsed, key: Option<IdempotencyKey>) -> Result<Answer, IngestError> {
        let Parsed { batch, rejected, errors } = parsed;
        let (endpoints, records) = batch.into_parts();
        if records.is_empty() {
            return Ok(Answer::new(0, rejected, 0, &errors));
        }
        // More records than the queue holds in all still go through, alone.
        let weight = u32::try_from(records.len()).unwrap_or(u32::MAX).min(self.config.queue_records);
        let room = Arc::clone(&self.room).try_acquire_many_owned(weight).map_err(|_| IngestError::QueueFull)?;

        let numbers = self.registry.numbers(&endpoints).await.map_err(|error| FlushFailure::of(&error))?;
        let overflowed = records.iter().filter(|record| numbers[record.endpoint as usize].overflowed).count();
        let rows: Vec<RequestRow> = records
            .into_iter()
            .map(|record| RequestRow {
                timestamp: record.timestamp,
                endpoint: numbers[record.endpoint as usize].id,
                status: record.status,
                response_time_us: record.response_time_us,
                trace_id: record.trace_id,
            })
            .collect();
        let answer = Answer::new(rows.len() as u64, rejected, overflowed as u64, &errors);
        let key = key.map(|key| BatchKey { key: key.key, body_hash: key.body_hash, answer: answer.body.clone() });

        let (done, outcome) = oneshot::channel();
        self.queue.try_send(Submission { rows, key, done, _room: room }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => IngestError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => IngestError::Stopping,
        })?;
        match tokio::time::timeout(ACKNOWLEDGED_WITHIN, outcome).await {
            Ok(Ok(Ok(BatchOutcome::Stored))) => Ok(answer),
            Ok(Ok(Ok(BatchOutcome::Replayed(body)))) => Ok(Answer::replayed(body)),
            Ok(Ok(Ok(BatchOutcome::KeyReused))) => Err(IngestError::KeyReused),
            Ok(Ok(Err(failure))) => Err(failure.into()),
            // The writer went away without a word, or is still at it: whether it is stored is not known.
            Ok(Err(_)) | Err(_) => Err(FlushFailure::CommitUnknown.into()),
        }
    }
}
