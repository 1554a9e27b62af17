//! What time it is, as far as the service is concerned.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};

/// The service's clock: the machine's, corrected to the database's, or one set by hand in tests.
///
/// Replicas whose machines disagree about the time must still agree on which minute is the last one, so the clock
/// follows that of the one database they share. Clones show the same time.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    /// The machine's clock and the microseconds by which the database's is ahead of it.
    System(Arc<AtomicI64>),
    Hand(HandSetClock),
}

/// A clock that stands still until it is moved.
#[derive(Debug, Clone)]
pub struct HandSetClock(Arc<AtomicI64>);

impl Clock {
    /// The machine's clock, until [`follow`](Self::follow) corrects it.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System(Arc::default()))
    }

    /// The present instant.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        match &self.0 {
            Source::System(ahead) => Utc::now() + TimeDelta::microseconds(ahead.load(Ordering::Relaxed)),
            Source::Hand(hand) => hand.now(),
        }
    }

    /// Corrects the clock by what the database's showed just now. A clock set by hand stays as it is.
    pub fn follow(&self, database: DateTime<Utc>) {
        if let Source::System(ahead) = &self.0 {
            let difference = (database - Utc::now()).num_microseconds().unwrap_or(0);
            ahead.store(difference, Ordering::Relaxed);
        }
    }
}

impl HandSetClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn at(now: DateTime<Utc>) -> Self {
        Self(Arc::new(AtomicI64::new(now.timestamp_micros())))
    }

    /// The instant it shows.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0.load(Ordering::SeqCst)).unwrap_or_default()
    }

    /// Moves it to `now`.
    pub fn set(&self, now: DateTime<Utc>) {
        self.0.store(now.timestamp_micros(), Ordering::SeqCst);
    }

    /// Moves it on.
    pub fn advance(&self, by: TimeDelta) {
        self.set(self.now() + by);
    }

    /// The same clock as the service sees it.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock(Source::Hand(self.clone()))
    }
}
