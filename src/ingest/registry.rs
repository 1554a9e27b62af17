//! Which number an endpoint has, and where the records of one too many go.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Mutex;

use crate::domain::{Endpoint, EndpointId, Route, Service};
use crate::store::{EndpointCaps, Store, StoreError};

/// Longest wait for somebody else's question about endpoints.
const TURN: Duration = Duration::from_secs(4);

/// The number under which an endpoint's records are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) id: EndpointId,
    /// Whether it is that of `{other}`, for want of room.
    pub(super) overflowed: bool,
}

/// The numbers that this process has met. It holds as many endpoints as there may be, no more: what found no room is
/// remembered by its service, not by its name.
pub(super) struct Registry {
    store: Arc<Store>,
    caps: EndpointCaps,
    known: RwLock<Known>,
    /// Held by whoever asks the database. The first batches of a fresh process all meet the same unknown endpoints; each
    /// would otherwise take a connection of its own, to be told the same.
    asking: Mutex<()>,
}

#[derive(Default)]
struct Known {
    numbers: HashMap<Endpoint, EndpointId>,
    /// The services of `numbers`; all there are, once there may be no more.
    services: HashSet<Service>,
    /// Services that get no more endpoints, having as many as they may, or all services together.
    full: HashSet<Service>,
    /// Whether there are as many services as there may be.
    services_full: bool,
}

impl Known {
    /// The number of `endpoint` as far as is known without asking.
    fn find(&self, endpoint: &Endpoint) -> Option<Number> {
        if let Some(&id) = self.numbers.get(endpoint) {
            return Some(Number { id, overflowed: false });
        }
        let instead = if self.full.contains(&endpoint.service) {
            endpoint.overflow()
        } else if self.services_full && !self.services.contains(&endpoint.service) {
            nowhere_else(endpoint)
        } else {
            return None;
        };
        self.numbers.get(&instead).map(|&id| Number { id, overflowed: true })
    }
}

/// The endpoint that takes the records of services beyond the cap.
fn nowhere_else(endpoint: &Endpoint) -> Endpoint {
    Endpoint { service: Service::other(), method: endpoint.method, route: Route::other() }
}

impl Registry {
    pub(super) fn new(store: Arc<Store>, caps: EndpointCaps) -> Self {
        Self { store, caps, known: RwLock::default(), asking: Mutex::default() }
    }

    /// The numbers of `endpoints`, in their order.
    pub(super) async fn numbers(&self, endpoints: &[Endpoint]) -> Result<Vec<Number>, StoreError> {
        if let Some(numbers) = self.all_known(endpoints) {
            return Ok(numbers);
        }
        let asking = tokio::time::timeout(TURN, self.asking.lock()).await;
        let _turn = asking.map_err(|_| StoreError::TimedOut)?;
        let unknown: BTreeSet<&Endpoint> = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            endpoints.iter().filter(|endpoint| known.find(endpoint).is_none()).collect()
        };
        let found = self.register(unknown.iter().map(|&endpoint| endpoint.clone()).collect()).await?;
        // First choice, then {other} of the service, then {other} of all.
        let left: Vec<&Endpoint> = unknown.into_iter().filter(|endpoint| !found.contains_key(endpoint)).collect();
        let second = self.register(left.iter().map(|endpoint| endpoint.overflow()).collect()).await?;
        let homeless: Vec<&Endpoint> =
            left.iter().copied().filter(|endpoint| !second.contains_key(&endpoint.overflow())).collect();
        let last = self.register(homeless.iter().map(|endpoint| nowhere_else(endpoint)).collect()).await?;

        self.remember(&[&found, &second, &last]);
        let full: BTreeSet<&Service> = left.iter().map(|endpoint| &endpoint.service).collect();
        let homeless_services: BTreeSet<&Service> = homeless.iter().map(|endpoint| &endpoint.service).collect();
        for service in full.difference(&homeless_services) {
            self.remember_full(service).await?;
        }
        if !homeless.is_empty() {
            self.remember_no_more_services().await?;
        }
        endpoints
            .iter()
            .map(|endpoint| {
                let direct = found.get(endpoint).map(|&id| Number { id, overflowed: false });
                let instead = || {
                    let id = second.get(&endpoint.overflow()).or_else(|| last.get(&nowhere_else(endpoint)))?;
                    Some(Number { id: *id, overflowed: true })
                };
                let known = || self.known.read().unwrap_or_else(PoisonError::into_inner).find(endpoint);
                direct.or_else(instead).or_else(known).ok_or(StoreError::Contended)
            })
            .collect()
    }

    async fn register(&self, wanted: BTreeSet<Endpoint>) -> Result<HashMap<Endpoint, EndpointId>, StoreError> {
        if wanted.is_empty() {
            return Ok(HashMap::new());
        }
        self.store.register_endpoints(&wanted.into_iter().collect::<Vec<_>>(), self.caps).await
    }

    fn remember(&self, found: &[&HashMap<Endpoint, EndpointId>]) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for (endpoint, &id) in found.iter().copied().flatten() {
            known.services.insert(endpoint.service.clone());
            known.numbers.insert(endpoint.clone(), id);
        }
    }

    /// Remembers that a service has no room, and with it every endpoint it has: one that another replica made must not be
    /// taken for one too many just because this replica has not met it. Once full, a service gets no more.
    async fn remember_full(&self, service: &Service) -> Result<(), StoreError> {
        if self.known.read().unwrap_or_else(PoisonError::into_inner).full.contains(service) {
            return Ok(());
        }
        self.remember(&[&self.store.endpoints_of(service).await?]);
        self.known.write().unwrap_or_else(PoisonError::into_inner).full.insert(service.clone());
        let (service, cap, total_cap) = (service.as_str(), self.caps.per_service, self.caps.total);
        tracing::warn!(service, cap, total_cap, "a service gets no more endpoints; new ones count as {{other}}");
        Ok(())
    }

    /// Remembers that no service finds room any more, and every one there is.
    async fn remember_no_more_services(&self) -> Result<(), StoreError> {
        if self.known.read().unwrap_or_else(PoisonError::into_inner).services_full {
            return Ok(());
        }
        let services = self.store.services().await?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.services.extend(services);
        known.services_full = true;
        drop(known);
        let cap = self.caps.services;
        tracing::warn!(cap, "there are as many services as there may be; new ones count as {{other}}");
        Ok(())
    }

    fn all_known(&self, endpoints: &[Endpoint]) -> Option<Vec<Number>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        endpoints.iter().map(|endpoint| known.find(endpoint)).collect()
    }
}
