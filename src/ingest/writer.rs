//! The writer: many submissions, few transactions.
//!
//! Properties:
//! - A submission waits only while a flush is under way; then everything that has gathered shares the next one: at the end
//!   of that flush, as soon as it is much, or once that flush is late. A lone request waits for nobody, and there is no age to
//!   tune: the age of a batch is at most the length of the flush before it.
//! - Each submission is answered once, after `COMMIT` or when it is known not to be stored, or not known either way.
//! - A flush that failed before `COMMIT` was sent is tried once more. One that may have been committed is not: without a
//!   key it could be counted twice.
//! - A flush that is late holds up nobody who came after it: the next begins beside it, unless four are late already.
//! - Told to stop, the writer takes no more, flushes what waits, and ends.
//!
//! - A key that another replica is storing in a transaction that does not end costs its own client 409, nobody else.
//!
//! Races: two submissions with one idempotency key must not share a flush, since the unique index tells only transactions
//! apart; the second waits for the next flush. Between replicas the index itself makes the second wait.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::{BatchKey, BatchOutcome, FlushBatch, RequestRow, Store, StoreError};

/// Flushes at once. Two keep Postgres busy while the next batch is being made; more only wait for the same disk.
const FLUSHES_IN_FLIGHT: usize = 2;

/// Flushes at once where those under way are late: each may hang at the idempotency key of one client, and whoever has
/// nothing to do with that must get past them. Not more, since the connections are for questions too.
const FLUSHES_BESIDE_LATE: usize = 4;

/// A flush that takes longer than this and [`LATE_PER_RECORD`] is late: several times what one takes that nothing is in the
/// way of (2 ms with a record, some 50 ms with 40,000).
const LATE: Duration = Duration::from_millis(40);

/// What a record adds to that.
const LATE_PER_RECORD: Duration = Duration::from_micros(10);

/// Records that must wait before they begin a flush beside one that is under way; fewer wait for its end, and for whoever
/// comes meanwhile. Each flush costs its round trips, its `COMMIT` and a delta for each of its endpoints, whatever its size,
/// so that many small ones side by side are slower than few large ones, and leave more to be read and folded.
const FLUSH_BESIDE_RECORDS: usize = 15_000;

/// Records of a flush that is small: mostly round trips and the wait for the disk, in which another can be at work.
const SMALL_RECORDS: usize = 2_000;

/// The same beside a small flush: half of what eight clients have under way that send 100 records each, so that they take turns
/// in two flushes. Where all waited for the end of one they sent a fifth less.
const FLUSH_BESIDE_SMALL: usize = 400;

/// Records a flush takes, unless a single submission has more: some 200 ms of `COPY`, a few megabytes.
const FLUSH_RECORDS: usize = 50_000;

/// What became of a flush that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FlushFailure {
    /// Not stored; the database is away or busy.
    #[error("the database is not available")]
    Unavailable,
    /// Not stored: another delivery of the same batch is under way and does not end.
    #[error("another delivery of the same batch is under way")]
    KeyHeld,
    /// Not stored; the database's disk is full.
    #[error("the database has no room left")]
    StorageFull,
    /// Not stored, as the database took too long.
    #[error("the database did not answer in time")]
    TimedOut,
    /// Perhaps stored.
    #[error("whether the records were stored is not known")]
    CommitUnknown,
    /// Not stored, by a mistake of the service's own.
    #[error("the database refused the records")]
    Unexpected,
}

impl FlushFailure {
    pub(super) fn of(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::Contended => Self::Unavailable,
            StoreError::KeyHeld => Self::KeyHeld,
            StoreError::StorageFull(_) => Self::StorageFull,
            StoreError::TimedOut => Self::TimedOut,
            StoreError::CommitUnknown => Self::CommitUnknown,
            StoreError::Unexpected(_) => Self::Unexpected,
        }
    }
}

/// The records of one request, waiting.
pub(super) struct Submission {
    pub(super) rows: Vec<RequestRow>,
    pub(super) key: Option<BatchKey>,
    pub(super) done: oneshot::Sender<Result<BatchOutcome, FlushFailure>>,
    /// Room in the queue, given back with the submission.
    pub(super) _room: OwnedSemaphorePermit,
}

pub(super) struct Writer {
    store: Arc<Store>,
    /// Submissions taken from the queue, in their order.
    waiting: VecDeque<Submission>,
    /// Their records.
    waiting_records: usize,
}

impl Writer {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, waiting: VecDeque::new(), waiting_records: 0 }
    }

    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Submission>, stop: CancellationToken) {
        let mut flushes = JoinSet::new();
        // Of the flushes under way: from when on each is late.
        let mut late_from: HashMap<Id, Instant> = HashMap::new();
        // Of the flush that was begun last.
        let mut last_records = 0;
        let mut is_drained = false;
        loop {
            while self.waiting_records < FLUSH_RECORDS
                && let Ok(submission) = queue.try_recv()
            {
                self.wait(submission);
            }
            let (now, all_late_from) = (Instant::now(), late_from.values().max().copied());
            let (wanted, most) = match all_late_from {
                None => (1, 1),
                Some(late_from) if late_from <= now => (1, FLUSHES_BESIDE_LATE),
                Some(_) if last_records < SMALL_RECORDS => (FLUSH_BESIDE_SMALL, FLUSHES_IN_FLIGHT),
                Some(_) => (FLUSH_BESIDE_RECORDS, FLUSHES_IN_FLIGHT),
            };
            if self.waiting_records >= wanted && flushes.len() < most {
                let gathered = self.gather();
                let records: usize = gathered.iter().map(|submission| submission.rows.len()).sum();
                last_records = records;
                let late = LATE + LATE_PER_RECORD * u32::try_from(records).unwrap_or(u32::MAX);
                let flush = flushes.spawn(flush(Arc::clone(&self.store), gathered));
                late_from.insert(flush.id(), now + late);
                continue;
            }
            if is_drained && flushes.is_empty() {
                break;
            }
            tokio::select! {
                next = queue.recv(), if !is_drained && self.waiting_records < FLUSH_RECORDS => match next {
                    Some(submission) => self.wait(submission),
                    None => is_drained = true,
                },
                Some(ended) = flushes.join_next_with_id() => {
                    let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                    late_from.remove(&id);
                }
                // Somebody waits, and the last flush has just become late.
                () = tokio::time::sleep_until(all_late_from.unwrap_or(now)),
                    if self.waiting_records > 0 && flushes.len() < FLUSHES_BESIDE_LATE && all_late_from.is_some() => {}
                // Closing keeps what waits: the next turns drain it, and then `recv` says that there is no more.
                () = stop.cancelled(), if !queue.is_closed() => queue.close(),
            }
        }
    }

    fn wait(&mut self, submission: Submission) {
        self.waiting_records += submission.rows.len();
        self.waiting.push_back(submission);
    }

    /// The first that waits and others, as much as one flush takes.
    fn gather(&mut self) -> Vec<Submission> {
        let mut keys: HashSet<String> = HashSet::new();
        let mut records = 0;
        let mut gathered = Vec::new();
        let mut deferred = VecDeque::new();
        while records < FLUSH_RECORDS
            && let Some(next) = self.waiting.pop_front()
        {
            if next.key.as_ref().is_some_and(|key| !keys.insert(key.key.clone())) {
                deferred.push_back(next);
                continue;
            }
            records += next.rows.len();
            gathered.push(next);
        }
        deferred.append(&mut self.waiting);
        self.waiting = deferred;
        self.waiting_records -= records;
        gathered
    }
}

async fn flush(store: Arc<Store>, submissions: Vec<Submission>) {
    let (batches, waiting): (Vec<FlushBatch>, Vec<_>) = submissions
        .into_iter()
        .map(|Submission { rows, key, done, _room }| (FlushBatch { rows, key }, (done, _room)))
        .unzip();
    let mut flushed = store.flush(&batches).await;
    if flushed.as_ref().is_err_and(StoreError::is_transient) {
        flushed = store.flush(&batches).await;
    }
    if matches!(flushed, Err(StoreError::KeyHeld)) && batches.len() > 1 {
        // Nothing was stored. One client's trouble must not be that of all who happened to share its flush: those without
        // a key go together, and each with one alone.
        let (keyed, keyless): (Vec<_>, Vec<_>) =
            batches.into_iter().zip(waiting).partition(|(batch, _)| batch.key.is_some());
        let groups = std::iter::once(keyless).chain(keyed.into_iter().map(|alone| vec![alone]));
        for group in groups.filter(|group| !group.is_empty()) {
            let (batches, waiting): (Vec<_>, Vec<_>) = group.into_iter().unzip();
            answer(store.flush(&batches).await, &batches, waiting);
        }
        return;
    }
    answer(flushed, &batches, waiting);
}

type Waiting = (oneshot::Sender<Result<BatchOutcome, FlushFailure>>, OwnedSemaphorePermit);

/// Tells everybody what became of their batch; a client that went away has its records stored all the same.
fn answer(flushed: Result<Vec<BatchOutcome>, StoreError>, batches: &[FlushBatch], waiting: Vec<Waiting>) {
    let records = batches.iter().map(|batch| batch.rows.len()).sum::<usize>();
    match flushed {
        Ok(outcomes) => {
            tracing::debug!(records, batches = batches.len(), "flushed");
            for ((done, _), outcome) in waiting.into_iter().zip(outcomes) {
                let _ = done.send(Ok(outcome));
            }
        }
        Err(error) => {
            tracing::error!(records, batches = batches.len(), error = %error, "a flush failed");
            for (done, _) in waiting {
                let _ = done.send(Err(FlushFailure::of(&error)));
            }
        }
    }
}
