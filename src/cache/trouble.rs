//! Whether Postgres is in trouble.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};

/// How long nobody who can be told an old answer waits for a database that just failed. Finding out takes up to 2 s, the time
/// that a connection may take.
const LEFT_ALONE_FOR: TimeDelta = TimeDelta::seconds(2);

/// Until when the database is left alone; 0: it is well. Microseconds of the service's clock.
#[derive(Debug, Default)]
pub(super) struct Trouble(AtomicI64);

impl Trouble {
    /// The database was away.
    pub(super) fn begin(&self, now: DateTime<Utc>) {
        self.0.store((now + LEFT_ALONE_FOR).timestamp_micros(), Ordering::Relaxed);
    }

    /// The database answered.
    pub(super) fn end(&self) {
        // Read first: in good times, which is nearly always, nobody writes what everybody reads.
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    /// Whether to ask the database. While it is in trouble one caller in a while is sent to see how it is.
    pub(super) fn lets_through(&self, now: DateTime<Utc>) -> bool {
        let until = self.0.load(Ordering::Relaxed);
        if until == 0 {
            return true;
        }
        let next = (now + LEFT_ALONE_FOR).timestamp_micros();
        // Once the clock was set back, the end would be too far away: it counts as over.
        let left = TimeDelta::microseconds(until - now.timestamp_micros());
        (left <= TimeDelta::zero() || left > LEFT_ALONE_FOR)
            && self.0.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_trouble_one_in_two_seconds_is_let_through() {
        let (trouble, now) = (Trouble::default(), DateTime::UNIX_EPOCH);
        assert!(trouble.lets_through(now));
        trouble.begin(now);
        assert!(!trouble.lets_through(now + TimeDelta::milliseconds(1_999)));
        // A machine whose clock is behind has taken over, and the service's clock follows it.
        let back = now - TimeDelta::hours(1);
        assert_eq!([trouble.lets_through(back), trouble.lets_through(back)], [true, false]);
        trouble.begin(now);
        let later = now + LEFT_ALONE_FOR;
        assert_eq!([trouble.lets_through(later), trouble.lets_through(later)], [true, false]);
        trouble.end();
        assert!(trouble.lets_through(later));
    }
}
