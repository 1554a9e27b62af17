//! What one client has used of one quota: decided here, told to the other replicas.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::{Decision, Quota, Tat};

/// A client's account.
#[derive(Debug, Default)]
pub(super) struct Account(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Counts what was admitted here, and what others had admitted when it was last heard.
    tat: Tat,
    /// Requests admitted here that are not part of a debit yet.
    untold: u32,
    /// Whether somebody is at telling them.
    telling: bool,
}

/// What is told at once.
#[derive(Debug)]
pub(super) struct Debit {
    pub(super) now_us: i64,
    /// What the requests take, as far as it has not passed.
    pub(super) cost_us: i64,
    requests: u32,
}

impl Account {
    /// Decides on a request at `now_us`. Where the account is `shared`, also whether the caller is to see to it that the
    /// others are told.
    pub(super) fn check(&self, quota: Quota, now_us: i64, shared: bool) -> (Decision, bool) {
        let state = &mut *self.state();
        let decision = quota.check(&mut state.tat, now_us);
        if !decision.admitted || !shared {
            return (decision, false);
        }
        state.untold = state.untold.saturating_add(1);
        (decision, !std::mem::replace(&mut state.telling, true))
    }

    /// Takes what there is to tell; `None`: nothing, and whoever asked no longer needs to.
    pub(super) fn begin_debit(&self, quota: Quota, now_us: i64) -> Option<Debit> {
        let state = &mut *self.state();
        let requests = std::mem::take(&mut state.untold);
        // What was admitted a while ago, by the time it is told, counts only as far as it does here.
        let cost_us = (i64::from(requests) * quota.interval_us()).min(state.tat.ahead_of(now_us));
        if cost_us == 0 {
            state.telling = false;
            return None;
        }
        Some(Debit { now_us, cost_us, requests })
    }

    /// Takes in what a debit came to; `None`: nobody listened.
    pub(super) fn end_debit(&self, quota: Quota, debit: &Debit, tat: Option<Tat>) {
        let state = &mut *self.state();
        match tat {
            Some(tat) => {
                let own = i64::from(state.untold) * quota.interval_us();
                state.tat = state.tat.max(tat.debited(debit.now_us, own));
            }
            // Should Redis have counted it all the same, the client is refused some milliseconds too early, once.
            None => state.untold = state.untold.saturating_add(debit.requests),
        }
    }

    /// Lets the client's next request see to the telling.
    pub(super) fn give_up_telling(&self) {
        self.state().telling = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_795_000_000_000_000;

    /// Redis, as far as one client is concerned.
    fn tell(account: &Account, quota: Quota, shared: &mut Tat, now: i64) {
        if let Some(debit) = account.begin_debit(quota, now) {
            *shared = shared.debited(debit.now_us, debit.cost_us);
            account.end_debit(quota, &debit, Some(*shared));
        }
    }

    #[test]
    fn one_at_a_time_tells_and_only_what_was_admitted() {
        let quota = Quota::new(10, 2).unwrap();
        let account = Account::default();
        let told: Vec<bool> = (0..3).map(|_| account.check(quota, NOW, true).1).collect();
        assert_eq!(told, [true, false, false]);
        let debit = account.begin_debit(quota, NOW).unwrap();
        assert_eq!((debit.requests, debit.cost_us), (2, 200_000));
        account.end_debit(quota, &debit, None);
        let again = account.begin_debit(quota, NOW + 150_000).unwrap();
        assert_eq!((again.requests, again.cost_us), (2, 50_000), "the rest has passed");
        account.end_debit(quota, &again, Some(Tat::at_us(NOW + 900_000)));
        assert!(account.begin_debit(quota, NOW + 150_000).is_none());
        // Now the others' requests count here too, and telling begins anew with the next that is admitted.
        assert!(!account.check(quota, NOW + 799_999, true).0.admitted);
        let (decision, to_tell) = account.check(quota, NOW + 800_000, true);
        assert!(decision.admitted && to_tell);
    }

    proptest! {
        #[test]
        fn telling_makes_one_replica_neither_stricter_nor_milder(
            steps in prop::collection::vec((0..400_000_i64, any::<bool>()), 1..200),
        ) {
            let quota = Quota::new(10, 5).unwrap();
            let (alone, telling) = (Account::default(), Account::default());
            let (mut shared, mut now) = (Tat::default(), NOW);
            for (gap, tells) in steps {
                now += gap;
                prop_assert_eq!(alone.check(quota, now, false).0, telling.check(quota, now, true).0);
                if tells {
                    tell(&telling, quota, &mut shared, now);
                }
            }
        }

        #[test]
        fn replicas_that_tell_after_each_request_overshoot_by_one_each(
            steps in prop::collection::vec((0..200_000_i64, 0..3_usize), 1..200),
        ) {
            let quota = Quota::new(10, 5).unwrap();
            let replicas: [Account; 3] = Default::default();
            let (mut shared, mut now, mut admitted) = (Tat::default(), NOW, Vec::new());
            for (gap, at) in steps {
                now += gap;
                if replicas[at].check(quota, now, true).0.admitted {
                    admitted.push(now);
                }
                tell(&replicas[at], quota, &mut shared, now);
            }
            // Whoever has not heard of the others yet may admit one too many, and hears when it tells; so each but one.
            for (first, from) in admitted.iter().enumerate() {
                for (last, to) in admitted.iter().enumerate().skip(first) {
                    let most = 5 + (to - from) / 100_000 + 2;
                    prop_assert!(((first..=last).count() as i64) <= most, "{first}..={last}");
                }
            }
        }
    }
}
