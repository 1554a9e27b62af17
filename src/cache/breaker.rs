//! A circuit breaker: what has failed some times in a row is left alone, and looked after from time to time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row that open it. One may be a hiccup; each costs a client the whole budget of time.
const FAILURES: u32 = 3;

/// How often it is tried whether the other side is back.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Open or closed.
#[derive(Debug)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug)]
enum State {
    Closed { failures: u32 },
    Open { probe_at: Instant },
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Go on.
    Closed,
    /// Do without.
    Open,
    /// Do without, and try, beside it, whether the other side is back. One caller in a while is told so.
    Probe,
}

/// What an outcome changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Opened,
    Closed,
    None,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State::Closed { failures: 0 }))
    }

    pub(super) fn admit(&self, now: Instant) -> Admission {
        match &mut *self.state() {
            State::Closed { .. } => Admission::Closed,
            State::Open { probe_at } if *probe_at <= now => {
                *probe_at = now + PROBE_EVERY;
                Admission::Probe
            }
            State::Open { .. } => Admission::Open,
        }
    }

    pub(super) fn succeeded(&self) -> Change {
        let before = std::mem::replace(&mut *self.state(), State::Closed { failures: 0 });
        if matches!(before, State::Open { .. }) { Change::Closed } else { Change::None }
    }

    pub(super) fn failed(&self, now: Instant) -> Change {
        let state = &mut *self.state();
        match state {
            State::Closed { failures } if *failures + 1 < FAILURES => {
                *failures += 1;
                Change::None
            }
            State::Closed { .. } => {
                *state = State::Open { probe_at: now + PROBE_EVERY };
                Change::Opened
            }
            State::Open { .. } => Change::None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_in_a_row_open_it_and_one_success_closes_it() {
        let (breaker, now) = (Breaker::new(), Instant::now());
        assert_eq!([breaker.failed(now), breaker.failed(now)], [Change::None; 2]);
        assert_eq!(breaker.succeeded(), Change::None);
        assert_eq!([breaker.failed(now), breaker.failed(now)], [Change::None; 2]);
        assert_eq!(breaker.admit(now), Admission::Closed);
        assert_eq!(breaker.failed(now), Change::Opened);
        assert_eq!(breaker.failed(now), Change::None);
        assert_eq!(breaker.admit(now), Admission::Open);
        assert_eq!(breaker.succeeded(), Change::Closed);
        assert_eq!(breaker.admit(now), Admission::Closed);
    }

    #[test]
    fn one_in_a_second_is_told_to_probe() {
        let (breaker, now) = (Breaker::new(), Instant::now());
        for _ in 0..FAILURES {
            breaker.failed(now);
        }
        let later = now + PROBE_EVERY;
        assert_eq!([breaker.admit(later), breaker.admit(later)], [Admission::Probe, Admission::Open]);
        assert_eq!(breaker.failed(later), Change::None, "the probe found nobody");
        assert_eq!(breaker.admit(later), Admission::Open);
        assert_eq!(breaker.admit(later + PROBE_EVERY), Admission::Probe);
    }
}
