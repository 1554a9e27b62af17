//! How soon an answer can change.

use chrono::{DateTime, Utc};

use super::window::{floor_day, floor_hour};

/// Decides every lifetime and every `Cache-Control`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Freshness {
    /// The window reaches into the current hour: it changes all the time.
    Live,
    /// Closed hours: only late records change it.
    Recent,
    /// Whole closed UTC days: as good as final.
    Settled,
}

impl Freshness {
    /// The freshness of an answer about `[from, to)`, given at `now`.
    ///
    /// Takes the instants, not a window: what is read may have been widened beyond the longest window that can be asked for.
    #[must_use]
    pub fn of(from: DateTime<Utc>, to: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        if to > floor_hour(now) {
            Self::Live
        } else if to <= floor_day(now) && floor_day(from) == from && floor_day(to) == to {
            Self::Settled
        } else {
            Self::Recent
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freshness(from: &str, to: &str) -> Freshness {
        Freshness::of(from.parse().unwrap(), to.parse().unwrap(), "2026-11-21T10:20:30Z".parse().unwrap())
    }

    #[test]
    fn the_current_hour_makes_a_window_live() {
        assert_eq!(freshness("2026-11-20T00:00:00Z", "2026-11-21T10:01:00Z"), Freshness::Live);
        assert_eq!(freshness("2026-11-20T00:00:00Z", "2026-11-21T10:00:00Z"), Freshness::Recent);
    }

    #[test]
    fn whole_closed_days_are_settled() {
        assert_eq!(freshness("2026-11-01T00:00:00Z", "2026-11-21T00:00:00Z"), Freshness::Settled);
        assert_eq!(freshness("2026-11-01T01:00:00Z", "2026-11-21T00:00:00Z"), Freshness::Recent);
        assert_eq!(freshness("2026-11-01T00:00:00Z", "2026-11-20T23:00:00Z"), Freshness::Recent);
    }
}
