//! How long answers live. The one table of it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::entry::Entry;
use crate::domain::Freshness;

/// How long an answer is known after it was made, to be told where Postgres is away.
pub(super) const LAST_KNOWN_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// How far ahead of the present an answer may seem to have been made. Whoever asks knows the time at which it began to, and may
/// have waited for five seconds; clocks of replicas follow the database's, which differs little from itself. What seems to be
/// made later is from before the database's clock was set back, as when a machine whose clock is behind takes over: it would
/// be told as fresh, with an age of nothing, until that clock has caught up.
pub(super) const AHEAD: TimeDelta = TimeDelta::seconds(10);

/// By how much a shared lifetime may differ from the table's: answers made together are not made anew together.
const JITTER: f64 = 0.1;

/// How far past its shared lifetime an old answer is told while a new one is made, as a part of that lifetime.
const GRACE: f64 = 0.5;

/// Lifetimes of answers, by freshness.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// Of answers that reach into the current hour: 1 to 5 minutes.
    pub live: Duration,
    /// Of answers about closed hours: 30 to 60 minutes.
    pub recent: Duration,
    /// Of answers about closed days: 12 to 24 hours.
    pub settled: Duration,
}

/// The lifetimes of one freshness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// In Redis, give or take 10 %, from when the answer was made.
    pub shared: Duration,
    /// In the process, from when the answer got there.
    pub local: Duration,
    /// At the client, from when the answer was made.
    pub max_age: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            live: Duration::from_secs(60),
            recent: Duration::from_secs(30 * 60),
            settled: Duration::from_secs(12 * 60 * 60),
        }
    }
}

impl Lifetimes {
    /// The row of the table.
    #[must_use]
    pub fn of(&self, freshness: Freshness) -> Lifetime {
        let row = |shared: Duration, local: Duration| Lifetime { shared, local: local.min(shared), max_age: shared };
        match freshness {
            // A second in the process, so that replicas behind one balancer do not contradict each other.
            Freshness::Live => row(self.live, Duration::from_secs(1)),
            Freshness::Recent => row(self.recent, Duration::from_secs(60)),
            Freshness::Settled => row(self.settled, Duration::from_secs(600)),
        }
    }

    /// The shared lifetime of this answer: the table's, moved by up to a tenth. What moves it is the answer's hash, which is
    /// as even as dice and needs none.
    pub(super) fn shared(&self, entry: &Entry) -> Duration {
        let [first, second, ..] = *entry.etag.as_bytes();
        let dice = f64::from(u16::from_be_bytes([first, second])) / f64::from(u16::MAX);
        self.of(entry.freshness).shared.mul_f64(1.0 + JITTER * (2.0 * dice - 1.0)).max(Duration::from_millis(1))
    }

    /// Whether `entry`, here since `arrived_at`, may be told without a look elsewhere. It must not outlive its shared lifetime
    /// here, however late it came.
    pub(super) fn is_current(&self, entry: &Entry, arrived_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        within(arrived_at, self.of(entry.freshness).local, now) && self.is_shared(entry, now)
    }

    /// What is left of the shared lifetime of `entry`.
    pub(super) fn left(&self, entry: &Entry, now: DateTime<Utc>) -> Duration {
        let age = (now - entry.made_at).to_std().unwrap_or_default();
        self.shared(entry).saturating_sub(age).max(Duration::from_millis(1))
    }

    /// Whether `entry` is within its shared lifetime.
    pub(super) fn is_shared(&self, entry: &Entry, now: DateTime<Utc>) -> bool {
        within(entry.made_at, self.shared(entry), now)
    }

    /// Whether `entry` may be told while a new answer is being made.
    pub(super) fn is_in_grace(&self, entry: &Entry, now: DateTime<Utc>) -> bool {
        within(entry.made_at, self.shared(entry).mul_f64(1.0 + GRACE), now)
    }
}

/// Whether `entry` may be told where no other answer can be had.
pub(super) fn is_known(entry: &Entry, now: DateTime<Utc>) -> bool {
    // Even if the clock was set back since: it is told as old.
    TimeDelta::from_std(LAST_KNOWN_FOR).is_ok_and(|length| now - entry.made_at < length)
}

/// Whether `held` is kept although `entry` is there now. An older generation never is: a day has changed since.
pub(super) fn outdoes(held: &Entry, entry: &Entry, now: DateTime<Utc>) -> bool {
    held.generation >= entry.generation && held.made_at > entry.made_at && held.made_at <= now + AHEAD
}

/// Whether less than `length` has passed.
fn within(since: DateTime<Utc>, length: Duration, now: DateTime<Utc>) -> bool {
    TimeDelta::from_std(length).is_ok_and(|length| (-AHEAD..length).contains(&(now - since)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    use crate::domain::Fingerprint;

    #[test]
    fn the_tiers_are_a_minute_half_an_hour_and_half_a_day() {
        let lifetimes = Lifetimes::default();
        let seconds = |freshness| {
            let Lifetime { shared, local, max_age } = lifetimes.of(freshness);
            [shared, local, max_age].map(|length| length.as_secs())
        };
        assert_eq!(seconds(Freshness::Live), [60, 1, 60]);
        assert_eq!(seconds(Freshness::Recent), [1_800, 60, 1_800]);
        assert_eq!(seconds(Freshness::Settled), [43_200, 600, 43_200]);
        let short = Lifetimes { settled: Duration::from_secs(5), ..lifetimes };
        assert_eq!(short.of(Freshness::Settled).local, Duration::from_secs(5), "never longer than shared");
    }

    #[test]
    fn shared_lifetimes_spread_by_a_tenth() {
        let lifetimes = Lifetimes::default();
        let of = |n: u32| {
            let body = Bytes::copy_from_slice(&n.to_be_bytes());
            let etag = Fingerprint::of(&body);
            let entry = Entry::new(body, etag, DateTime::UNIX_EPOCH, Freshness::Live, 0);
            lifetimes.shared(&entry).as_secs_f64()
        };
        let all: Vec<f64> = (0..1_000).map(of).collect();
        assert!(all.iter().all(|seconds| (54.0..=66.0).contains(seconds)));
        let mean = all.iter().sum::<f64>() / 1_000.0;
        assert!((mean - 60.0).abs() < 0.5, "{mean}");
        assert!(all.iter().any(|seconds| *seconds < 55.0) && all.iter().any(|seconds| *seconds > 65.0));
    }
}
