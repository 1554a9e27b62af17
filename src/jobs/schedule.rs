//! When a job is due.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use croner::Cron;

/// When a job is due: at every multiple of a time, at the instants of a cron expression, or never.
#[derive(Debug, Clone)]
pub enum Schedule {
    /// Only by hand.
    Off,
    /// At the multiples of this time since 1970.
    Every(TimeDelta),
    /// At the instants of a cron expression, UTC.
    Cron {
        /// Which those are.
        cron: Box<Cron>,
        /// As it was written: whoever wrote `SUN` should not read 0.
        text: Box<str>,
    },
}

/// A text that is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "is neither a cron expression of five fields such as `30 2 * * *` (UTC), nor a time from 1s to 7d such as 10s, nor `off`{0}"
)]
pub struct InvalidSchedule(String);

impl Schedule {
    /// The last slot at or before `now`.
    #[must_use]
    pub fn slot_at(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Off => None,
            Self::Every(period) => now.duration_trunc(*period).ok(),
            Self::Cron { cron, .. } => cron.find_previous_occurrence(&now, true).ok(),
        }
    }

    /// The first slot after `now`.
    #[must_use]
    pub fn next_after(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Off => None,
            Self::Every(period) => now.duration_trunc(*period).ok().map(|slot| slot + *period),
            Self::Cron { cron, .. } => cron.find_next_occurrence(&now, false).ok(),
        }
    }
}

impl FromStr for Schedule {
    type Err = InvalidSchedule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        if let Ok(period) = humantime::parse_duration(text) {
            let sensible = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
            return TimeDelta::from_std(period)
                .ok()
                .filter(|_| sensible.contains(&period))
                .map(Self::Every)
                .ok_or_else(|| InvalidSchedule(String::new()));
        }
        let cron: Cron = text.parse().map_err(|error| InvalidSchedule(format!(": {error}")))?;
        // The 30th of February is well written and never comes.
        cron.find_next_occurrence(&DateTime::UNIX_EPOCH, true)
            .map_err(|_| InvalidSchedule(": that instant never comes".to_owned()))?;
        Ok(Self::Cron { cron: Box::new(cron), text: text.trim().into() })
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Every(period) => {
                write!(f, "every {}", humantime::format_duration(period.to_std().unwrap_or_default()))
            }
            Self::Cron { text, .. } => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn schedule(text: &str) -> Schedule {
        text.parse().unwrap()
    }

    #[test]
    fn a_slot_is_the_last_instant_that_was_due() {
        let cases = [
            ("10s", "2026-11-21T10:20:39.9Z", "2026-11-21T10:20:30Z", "2026-11-21T10:20:40Z"),
            ("10s", "2026-11-21T10:20:30Z", "2026-11-21T10:20:30Z", "2026-11-21T10:20:40Z"),
            ("5-59/15 * * * *", "2026-11-21T00:04:59Z", "2026-11-20T23:50:00Z", "2026-11-21T00:05:00Z"),
            ("5-59/15 * * * *", "2026-11-21T00:05:00Z", "2026-11-21T00:05:00Z", "2026-11-21T00:20:00Z"),
            ("0 4 1 * *", "2026-11-21T10:20:30Z", "2026-11-01T04:00:00Z", "2026-12-01T04:00:00Z"),
            ("30 3 * * SUN", "2026-11-21T10:20:30Z", "2026-11-15T03:30:00Z", "2026-11-22T03:30:00Z"),
        ];
        for (text, now, slot, next) in cases {
            assert_eq!(schedule(text).slot_at(at(now)), Some(at(slot)), "{text} at {now}");
            assert_eq!(schedule(text).next_after(at(now)), Some(at(next)), "{text} after {now}");
        }
        assert_eq!(schedule("off").slot_at(at("2026-11-21T10:20:30Z")), None);
        assert_eq!(schedule("off").next_after(at("2026-11-21T10:20:30Z")), None);
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_what_would_be() {
        for wrong in ["", "soon", "0s", "8d", "* * *", "61 * * * *", "0 0 30 2 *", "on", "-10s", "999ms"] {
            let error = wrong.parse::<Schedule>().unwrap_err().to_string();
            assert!(error.contains("cron expression of five fields"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_schedule_is_told_as_it_is_meant() {
        assert_eq!(schedule("10s").to_string(), "every 10s");
        assert_eq!(schedule("30 3 * * SUN").to_string(), "30 3 * * SUN");
        assert_eq!(schedule("off").to_string(), "off");
    }
}
