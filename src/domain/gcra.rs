//! How many requests a client may send: the generic cell rate algorithm (GCRA, ITU-T I.371, annex A), as a virtual scheduler.
//!
//! All that is kept of a client is one instant, the theoretical arrival time (TAT): when its next request would come if it
//! kept exactly to its rate. A request moves it on by the interval between two requests; one that would move it further ahead
//! of the clock than a burst takes is refused, and moves nothing. So in any time *t* at most burst + rate · *t* are admitted.
//!
//! Instants are microseconds of the service's clock. They fit the numbers of Lua exactly, in which Redis does the same sums.

/// The highest rate. Intervals are whole microseconds, rounded up: here, at 10 µs, a rate is kept to within a tenth, at
/// 1,000 a second to within a thousandth, and never exceeded.
pub const MAX_PER_SECOND: u32 = 100_000;

/// How far ahead of the clock a TAT may be, microseconds. Replicas that admit more together than one of them would are paid
/// back by refusing; garbage in Redis, and a clock that was set back, must not lock anybody out for longer than this.
pub const MOST_AHEAD_US: i64 = 60_000_000;

/// The longest that a burst may take to come back, microseconds: well within [`MOST_AHEAD_US`].
const LONGEST_BURST_US: i64 = 30_000_000;

/// How much a client may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    per_second: u32,
    burst: u32,
}

/// The theoretical arrival time of a client's next request. The default is long past: nothing was asked for yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tat(i64);

/// Whether a request is admitted, and what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is.
    pub admitted: bool,
    /// What was applied.
    pub quota: Quota,
    /// Requests that would be admitted now.
    pub remaining: u32,
    /// Microseconds until one more would be. For a request that is refused: until it would be admitted.
    pub one_more_in_us: i64,
}

impl Quota {
    /// So many requests a second in the long run, and so many at once; `None` if either is 0, or if the rate is over
    /// [`MAX_PER_SECOND`] or the burst takes more than 30 s to come back.
    #[must_use]
    pub const fn new(per_second: u32, burst: u32) -> Option<Self> {
        if per_second == 0 || burst == 0 || per_second > MAX_PER_SECOND {
            return None;
        }
        let quota = Self { per_second, burst };
        if quota.burst_us() > LONGEST_BURST_US { None } else { Some(quota) }
    }

    /// Requests at once.
    #[must_use]
    pub const fn burst(self) -> u32 {
        self.burst
    }

    /// Whole seconds, rounded up, in which a burst comes back.
    #[must_use]
    pub fn burst_seconds(self) -> u32 {
        self.burst.div_ceil(self.per_second)
    }

    /// Between two requests, microseconds.
    #[must_use]
    pub const fn interval_us(self) -> i64 {
        1_000_000_u32.div_ceil(self.per_second) as i64
    }

    const fn burst_us(self) -> i64 {
        self.interval_us() * self.burst as i64
    }

    /// Decides on a request at `now_us`; admitted, it moves `tat` on.
    pub fn check(self, tat: &mut Tat, now_us: i64) -> Decision {
        let ahead = tat.ahead_of(now_us);
        let interval = self.interval_us();
        let admitted = ahead + interval <= self.burst_us();
        let ahead = if admitted { ahead + interval } else { ahead };
        if admitted {
            *tat = Tat(now_us + ahead);
        }
        let room = self.burst_us() - ahead;
        let remaining = u32::try_from(room.div_euclid(interval)).unwrap_or(0);
        Decision { admitted, quota: self, remaining, one_more_in_us: interval * (i64::from(remaining) + 1) - room }
    }
}

impl Tat {
    /// The instant `us`.
    #[must_use]
    pub fn at_us(us: i64) -> Self {
        Self(us)
    }

    /// How far it is ahead of `now_us`, microseconds: 0 if it is past.
    #[must_use]
    pub fn ahead_of(self, now_us: i64) -> i64 {
        self.0.saturating_sub(now_us).clamp(0, MOST_AHEAD_US)
    }

    /// Moved on by requests that were admitted elsewhere and take `cost_us` in all.
    #[must_use]
    pub fn debited(self, now_us: i64, cost_us: i64) -> Self {
        Self(now_us + (self.ahead_of(now_us) + cost_us).min(MOST_AHEAD_US))
    }
}

impl Decision {
    /// Whole seconds, rounded up and at least 1, until one more request would be admitted.
    #[must_use]
    pub fn one_more_in_seconds(&self) -> u32 {
        u32::try_from(self.one_more_in_us.div_euclid(1_000_000) + i64::from(self.one_more_in_us % 1_000_000 > 0))
            .unwrap_or(0)
            .max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_795_000_000_000_000;

    fn quotas() -> impl Strategy<Value = Quota> {
        (prop_oneof![1..=2_000_u32, 50_000..=MAX_PER_SECOND], 1..=60_u32)
            .prop_filter_map("a burst of 30 s", |(per_second, burst)| Quota::new(per_second, burst))
    }

    /// When requests come: in close order, now and then, or after long pauses.
    fn arrivals() -> impl Strategy<Value = Vec<i64>> {
        let longest = prop_oneof![Just(15_i64), Just(2_000), Just(3_000_000)];
        let gaps = longest.prop_flat_map(|longest| prop::collection::vec(0..=longest, 1..200));
        gaps.prop_map(|gaps| {
            gaps.iter()
                .scan(NOW, |now, gap| {
                    *now += gap;
                    Some(*now)
                })
                .collect()
        })
    }

    #[test]
    fn a_burst_is_admitted_at_once_and_then_one_an_interval() {
        let quota = Quota::new(10, 3).unwrap();
        let mut tat = Tat::default();
        let mut check = |now| {
            let Decision { admitted, remaining, one_more_in_us, .. } = quota.check(&mut tat, now);
            (admitted, remaining, one_more_in_us)
        };
        assert_eq!(check(NOW), (true, 2, 100_000));
        assert_eq!(check(NOW), (true, 1, 100_000));
        assert_eq!(check(NOW + 50_000), (true, 0, 50_000));
        assert_eq!(check(NOW + 60_000), (false, 0, 40_000));
        assert_eq!(check(NOW + 100_000), (true, 0, 100_000));
        assert_eq!(check(NOW + 10_000_000), (true, 2, 100_000));
    }

    #[test]
    fn a_quota_is_not_nothing_nor_out_of_proportion() {
        assert!(Quota::new(0, 1).is_none() && Quota::new(1, 0).is_none() && Quota::new(100_001, 1).is_none());
        assert!(Quota::new(1, 31).is_none() && Quota::new(1, 30).is_some() && Quota::new(100_000, 200_000).is_some());
        assert_eq!(Quota::new(1_000, 2_000).unwrap().burst_seconds(), 2);
        assert_eq!(Quota::new(3, 4).unwrap().burst_seconds(), 2);
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out_for_more_than_a_minute() {
        let quota = Quota::new(10, 3).unwrap();
        let mut tat = Tat::default();
        quota.check(&mut tat, NOW);
        let hour_before = NOW - 3_600_000_000;
        assert_eq!(quota.check(&mut tat, hour_before).one_more_in_seconds(), 60);
    }

    proptest! {
        #[test]
        fn in_any_time_no_more_than_a_burst_and_the_rate_are_admitted(quota in quotas(), arrivals in arrivals()) {
            let mut tat = Tat::default();
            let admitted: Vec<i64> =
                arrivals.into_iter().filter(|now| quota.check(&mut tat, *now).admitted).collect();
            for (first, from) in admitted.iter().enumerate() {
                for (last, to) in admitted.iter().enumerate().skip(first) {
                    let most = i64::from(quota.burst) * 1_000_000 + i64::from(quota.per_second) * (to - from);
                    prop_assert!((last - first + 1) as i64 * 1_000_000 <= most, "{first}..={last}");
                }
            }
        }

        #[test]
        fn what_a_decision_says_comes_true(quota in quotas(), arrivals in arrivals()) {
            let mut tat = Tat::default();
            for now in arrivals {
                let decision = quota.check(&mut tat, now);
                let admitted_now = |at: i64| {
                    let mut tat = tat;
                    std::iter::from_fn(|| Some(quota.check(&mut tat, at).admitted)).take_while(|yes| *yes).count()
                };
                let Decision { remaining, one_more_in_us, .. } = decision;
                prop_assert_eq!(admitted_now(now), remaining as usize);
                prop_assert!(one_more_in_us > 0);
                prop_assert_eq!(admitted_now(now + one_more_in_us - 1), remaining as usize);
                // A full burst does not grow.
                let more = (remaining + 1).min(quota.burst) as usize;
                prop_assert_eq!(admitted_now(now + one_more_in_us), more);
            }
        }

        #[test]
        fn a_debit_is_as_many_requests(quota in quotas(), told in 0..40_i64, held in -5_000_000..5_000_000_i64) {
            let debited = Tat::at_us(NOW + held).debited(NOW, told * quota.interval_us());
            let mut one_by_one = Tat::at_us(NOW + held);
            for _ in 0..told {
                one_by_one = one_by_one.debited(NOW, quota.interval_us());
            }
            prop_assert_eq!(debited.ahead_of(NOW), one_by_one.ahead_of(NOW));
        }
    }
}
