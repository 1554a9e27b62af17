//! Who is asking: API keys, checked in memory.
//!
//! Owns: the keys that hold, how soon a change of them is seen, and the comparison. Uses: `store`, `domain`. Decides nothing
//! about statuses and headers, which is for `http`.
//!
//! Properties:
//! - A key that is known costs a request one hash and no wait.
//! - A revoked key is refused within 2 s and the time of one statement, on every replica: each reloads by itself.
//! - A key that was just made works in the next request: one that is not known waits for the next load to begin and end. All
//!   who wait share it, and loads begin at most twice a second, so strangers with made-up keys cost Postgres nothing.
//! - Revoked keys are not loaded. They and keys that never were take the same way to the same answer.
//! - Postgres away, the keys known last go on holding.
//!
//! Only [`KeyRing::run`] speaks to Postgres. Requests run on other runtimes and only wait for what it publishes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::domain::{ApiKey, KeyHash, KeyPrefix, Scope};
use crate::store::{HeldKey, Store, StoreError};

/// How often the keys are loaded. A revocation is promised within 5 s, and the load itself takes time.
const RELOADED_EVERY: Duration = Duration::from_secs(2);

/// Least time between two loads that were asked for.
const APART: Duration = Duration::from_millis(500);

/// Longest wait of a request for a load: what a load may wait for its turn and for a connection, and some.
const LOADED_WITHIN: Duration = Duration::from_secs(3);

/// Who sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Tells callers apart, and is no secret: the prefix of the key.
    pub id: Arc<str>,
    /// Name of the key.
    pub name: Arc<str>,
    /// What the caller may do.
    pub scope: Scope,
}

/// Why a key is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It does not hold: malformed, wrong, revoked or never made.
    #[error("the key does not hold")]
    Invalid,
    /// It is not known here, and Postgres, which may know it, does not answer.
    #[error("the keys cannot be looked up")]
    Unavailable,
}

/// What the last load brought.
#[derive(Default)]
struct Known {
    /// `None` until a load has succeeded.
    keys: Option<HashMap<KeyPrefix, (KeyHash, Caller)>>,
    /// When the last load began.
    looked_at: Option<Instant>,
    /// Whether it succeeded.
    reached: bool,
}

/// What the keys in memory say of a key.
enum Found {
    Holds(Caller),
    /// Its prefix is another key's, or it has not the form of one: no load would change that.
    Wrong,
    /// No key that is known here; perhaps a new one.
    Unfamiliar,
}

/// The keys that hold.
pub struct KeyRing {
    store: Arc<Store>,
    known: watch::Sender<Known>,
    /// Somebody waits for a load.
    wanted: Notify,
    /// What a key is compared with where there is nothing to compare it with, so that it takes the same time.
    nobody: KeyHash,
}

impl KeyRing {
    /// A ring without keys; [`run`](Self::run) or [`load`](Self::load) brings them.
    #[must_use]
    pub fn new(store: Arc<Store>) -> Self {
        let nobody = KeyHash::from_bytes(&[0; 32]).expect("32 bytes are a hash");
        Self { store, known: watch::Sender::default(), wanted: Notify::new(), nobody }
    }

    /// Who presents `presented`.
    ///
    /// # Errors
    /// [`Refusal`]; after a wait of at most 3 s where the key is not known.
    pub async fn check(&self, presented: &str) -> Result<Caller, Refusal> {
        match self.look_up(presented) {
            Found::Holds(caller) => Ok(caller),
            Found::Wrong => Err(Refusal::Invalid),
            // In a box, so that the many whose key is known do not carry along the room for it.
            Found::Unfamiliar => Box::pin(self.check_anew(presented)).await,
        }
    }

    /// Who presents a key that is not known yet, after the next load.
    async fn check_anew(&self, presented: &str) -> Result<Caller, Refusal> {
        // Only a load that begins from now on can have seen a key that was made before now.
        let asked = Instant::now();
        let mut known = self.known.subscribe();
        self.wanted.notify_one();
        let loaded = known.wait_for(|known| known.looked_at.is_some_and(|began| began >= asked));
        let reached = match tokio::time::timeout(LOADED_WITHIN, loaded).await {
            Ok(Ok(known)) => known.reached,
            Ok(Err(_)) | Err(_) => false,
        };
        match self.look_up(presented) {
            Found::Holds(caller) => Ok(caller),
            // A client that is told 401 may throw its records away, so that is said only by who knows.
            Found::Unfamiliar if !reached => Err(Refusal::Unavailable),
            Found::Wrong | Found::Unfamiliar => Err(Refusal::Invalid),
        }
    }

    /// What is in memory about a key. It is hashed and compared whatever it is, and before its form is looked at.
    fn look_up(&self, presented: &str) -> Found {
        let known = self.known.borrow();
        let prefix = KeyPrefix::at_start_of(presented);
        let held = prefix.and_then(|prefix| known.keys.as_ref()?.get(&prefix));
        let same = held.map_or(&self.nobody, |(hash, _)| hash).is_of(presented);
        match held {
            Some((_, caller)) if same => Found::Holds(caller.clone()),
            Some(_) => Found::Wrong,
            None if ApiKey::parse(presented).is_some() => Found::Unfamiliar,
            None => Found::Wrong,
        }
    }

    /// Whether there is no key at all, as far as is known; `false` before the first load.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.borrow().keys.as_ref().is_some_and(HashMap::is_empty)
    }

    /// Loads the keys now. What was known stays if that fails.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn load(&self) -> Result<(), StoreError> {
        let began = Instant::now();
        let loaded = self.store.held_api_keys().await;
        let (keys, outcome) = match loaded {
            Ok(held) => (Some(held.into_iter().map(entry).collect()), Ok(())),
            Err(error) => (None, Err(error)),
        };
        self.known.send_modify(|known| {
            known.looked_at = Some(began);
            known.reached = outcome.is_ok();
            if keys.is_some() {
                known.keys = keys;
            }
        });
        outcome
    }

    /// Keeps the keys fresh until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut reached = true;
        loop {
            let pause = async {
                tokio::time::sleep(APART).await;
                let _ = tokio::time::timeout(RELOADED_EVERY - APART, self.wanted.notified()).await;
            };
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
            let Some(outcome) = stop.run_until_cancelled(self.load()).await else { return };
            // Told when it begins and when it ends, not every two seconds of an outage.
            match &outcome {
                Err(error) if reached => {
                    tracing::error!(error = %error, "API keys could not be loaded; those known go on holding");
                }
                Ok(()) if !reached => tracing::info!("API keys are loaded again"),
                _ => {}
            }
            reached = outcome.is_ok();
        }
    }
}

fn entry(key: HeldKey) -> (KeyPrefix, (KeyHash, Caller)) {
    let caller = Caller { id: Arc::from(key.prefix.as_str()), name: Arc::from(key.name), scope: key.scope };
    (key.prefix, (key.hash, caller))
}
