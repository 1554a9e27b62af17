//! How much one client may ask of the service.
//!
//! Owns: who counts as one client, what each kind of request may use, what is kept of clients in the process. Uses: `cache`, for
//! the count that replicas share, `domain`, for the arithmetic ([`Quota`]).
//!
//! Properties:
//! - A decision is made at once, from what the process knows: no request waits for Redis on its behalf.
//! - One process admits to a client, in any time *t*, at most burst + rate · *t*.
//! - Replicas with a Redis share that: each tells Redis in the background what it admitted, and hears what all admitted. So
//!   they overshoot by no more than what the others admit within [`BETWEEN_DEBITS`] and a round trip. It is paid back:
//!   the shared time counts it, and all wait until it has passed.
//! - Redis away, each replica limits by itself, and tells the rest once Redis is back.
//! - Memory is bounded: [`MAX_ACCOUNTS`], whatever the number of addresses.
//!
//! | file | holds |
//! |---|---|
//! | `client` | who counts as one client |
//! | `account` | what a client has used: decided here, told to the others |
//! | `mod` | the quotas, the accounts, the telling |

mod account;
mod client;

use std::sync::Arc;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::cache::Debits;
use crate::domain::{Clock, Decision, Fingerprint, Quota};

pub use crate::domain::MAX_PER_SECOND;
pub use client::Client;

use account::Account;

/// Clients that are remembered, each once a kind of request; of more, those that were here least recently are forgotten, and
/// start afresh if they come back. To gain by that, a client would have to wait while so many others come, and the usual
/// burst comes back within 2 s anyway. Measured under a flood of addresses, 30,000 took 11 MB, and 36 MB with a Redis to
/// tell.
pub const MAX_ACCOUNTS: u64 = 10_000;

/// Between two debits of one client. At the usual 1,000 requests a second it makes one word to Redis of ten; and replicas
/// that do not know of each other for so long overshoot by a two-hundredth of a burst each.
pub const BETWEEN_DEBITS: Duration = Duration::from_millis(10);

/// Debits under way at once. Redis answers some thousand a second over each; more would only wait, and a flood of addresses
/// must not become a flood of tasks. Whom this keeps from telling tells with a later request.
const DEBITS_AT_ONCE: usize = 16;

/// Failed attempts to present a key, of one address: more than any number of clients behind one address make by mistake; to
/// guess 256 bits at 10 a second is hopeless, and the log stays readable.
const FAILURES: Option<Quota> = Quota::new(10, 100);

/// What a request is, as far as limits go. Each kind has a quota of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A question.
    Read,
    /// A batch of records, however many.
    Ingest,
    /// A key that does not hold; counted by address.
    Failure,
}

impl Kind {
    /// Its name, in headers and in Redis.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Ingest => "ingest",
            Self::Failure => "failure",
        }
    }
}

/// What a client may use; `None`: as much as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Of questions.
    pub read: Option<Quota>,
    /// Of batches.
    pub ingest: Option<Quota>,
    /// Of failures.
    pub failure: Option<Quota>,
}

impl LimitsConfig {
    /// As much as anybody likes.
    pub const NONE: Self = Self { read: None, ingest: None, failure: None };

    /// So many questions and batches a second, and twice as many at once; 0: as many as anybody likes.
    #[must_use]
    pub fn per_second(read: u32, ingest: u32) -> Self {
        let quota = |per_second: u32| Quota::new(per_second, per_second.saturating_mul(2));
        Self { read: quota(read), ingest: quota(ingest), failure: FAILURES }
    }

    fn quota(&self, kind: Kind) -> Option<Quota> {
        match kind {
            Kind::Read => self.read,
            Kind::Ingest => self.ingest,
            Kind::Failure => self.failure,
        }
    }
}

/// Decides whether clients may go on.
pub struct Limits {
    config: LimitsConfig,
    accounts: moka::sync::Cache<(Client, Kind), Arc<Account>>,
    clock: Clock,
    teller: Option<Arc<Teller>>,
}

/// Tells Redis what was admitted.
struct Teller {
    debits: Debits,
    clock: Clock,
    under_way: Semaphore,
    /// The main one: a connection to Redis must not end with a worker of the server.
    runtime: Handle,
}

impl Limits {
    /// Limits by `clock`, shared through `debits`, which are made on `runtime`.
    #[must_use]
    pub fn new(config: LimitsConfig, clock: Clock, debits: Option<Debits>, runtime: Handle) -> Self {
        let accounts = moka::sync::Cache::builder()
            .max_capacity(MAX_ACCOUNTS)
            // Not the usual policy, which would turn newcomers away while it knows better customers, and with them their count.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        let teller = debits.map(|debits| {
            let under_way = Semaphore::new(DEBITS_AT_ONCE);
            Arc::new(Teller { debits, clock: clock.clone(), under_way, runtime })
        });
        Self { config, accounts, clock, teller }
    }

    /// Decides on a request of `client`, and counts it if it is admitted; `None` where nothing is limited.
    #[must_use]
    pub fn check(&self, client: &Client, kind: Kind) -> Option<Decision> {
        let quota = self.config.quota(kind)?;
        let key = (client.clone(), kind);
        let account = self.accounts.get_with_by_ref(&key, Arc::default);
        let (decision, to_tell) = account.check(quota, self.clock.now().timestamp_micros(), self.teller.is_some());
        if to_tell && let Some(teller) = &self.teller {
            teller.runtime.spawn(Arc::clone(teller).tell(account, quota, client.fingerprint(kind)));
        }
        Some(decision)
    }

    /// How many accounts are kept.
    #[must_use]
    pub fn accounts(&self) -> u64 {
        self.accounts.run_pending_tasks();
        self.accounts.entry_count()
    }
}

impl Teller {
    /// Tells what `account` has not told yet, until all is told or Redis does not listen.
    async fn tell(self: Arc<Self>, account: Arc<Account>, quota: Quota, client: Fingerprint) {
        while let Some(debit) = account.begin_debit(quota, self.clock.now().timestamp_micros()) {
            let tat = match self.under_way.try_acquire() {
                Ok(_turn) => self.debits.debit(client, debit.now_us, debit.cost_us).await,
                Err(_) => None,
            };
            account.end_debit(quota, &debit, tat);
            tokio::time::sleep(BETWEEN_DEBITS).await;
            if tat.is_none() {
                // Not said again at once: the client's next request tries.
                account.give_up_telling();
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::HandSetClock;

    fn limits(config: LimitsConfig) -> (Limits, HandSetClock) {
        let clock = HandSetClock::at("2026-11-21T10:20:30Z".parse().unwrap());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        (Limits::new(config, clock.clock(), None, runtime.handle().clone()), clock)
    }

    fn address(number: u32) -> Client {
        Client::address(std::net::Ipv4Addr::from(number).into())
    }

    #[test]
    fn a_hundred_thousand_addresses_take_no_more_room_than_is_set_aside() {
        let (limits, _) = limits(LimitsConfig::per_second(1, 1));
        let busy = address(0);
        let admitted = |client: &Client| limits.check(client, Kind::Read).unwrap().admitted;
        assert!(admitted(&busy) && admitted(&busy));
        for thousand in 0..100 {
            let newcomer = address(1_000_000 + thousand);
            assert!(admitted(&newcomer) && admitted(&newcomer));
            for number in 1..=1_000 {
                assert!(admitted(&address(thousand * 1_000 + number)));
            }
            assert!(!admitted(&busy) && !admitted(&newcomer), "who keeps coming is not forgotten");
        }
        assert_eq!(limits.accounts(), MAX_ACCOUNTS);
    }

    #[test]
    fn kinds_and_clients_are_apart_and_zero_is_no_limit() {
        let (limits, clock) = limits(LimitsConfig::per_second(1, 0));
        let admitted = |client: &Client, kind| limits.check(client, kind).is_none_or(|decision| decision.admitted);
        let key = Client::key("es_abcdefgh".into());
        for client in [&address(1), &address(2), &key] {
            assert!(admitted(client, Kind::Read) && admitted(client, Kind::Read) && !admitted(client, Kind::Read));
            assert!((0..1_000).all(|_| admitted(client, Kind::Ingest)));
        }
        let failures = (0..200).filter(|_| admitted(&address(1), Kind::Failure)).count();
        assert_eq!(failures, 100);
        clock.advance(chrono::TimeDelta::seconds(1));
        assert!(admitted(&key, Kind::Read) && !admitted(&key, Kind::Read));
    }
}
