//! Who counts as one client.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::Kind;
use crate::domain::Fingerprint;

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Client(Identity);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Identity {
    Key(Arc<str>),
    Address(IpAddr),
}

impl Client {
    /// Who presents the key that `id` tells from others.
    #[must_use]
    pub fn key(id: Arc<str>) -> Self {
        Self(Identity::Key(id))
    }

    /// Who comes from `address`. Of IPv6 the first 64 bits count: the least that anybody is given, who may then use any of
    /// the addresses in it.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        Self(Identity::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            address => address,
        }))
    }

    /// What stands for it in Redis. An address is personal data and is not written there; who can read Redis and tries all
    /// addresses of IPv4 could still tell which it was, for the seconds that the name is there.
    pub(super) fn fingerprint(&self, kind: Kind) -> Fingerprint {
        let client = match &self.0 {
            Identity::Key(id) => format!("{} key {id}", kind.name()),
            Identity::Address(address) => format!("{} address {address}", kind.name()),
        };
        Fingerprint::of(client.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_ipv6_a_network_counts_and_of_ipv4_an_address() {
        let client = |address: &str| Client::address(address.parse().unwrap());
        assert_eq!(client("2001:db8:1:2::1"), client("2001:db8:1:2:ffff::9"));
        assert_ne!(client("2001:db8:1:2::1"), client("2001:db8:1:3::1"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
        assert_ne!(client("::ffff:192.0.2.1"), client("::ffff:192.0.2.2"));
    }

    #[test]
    fn what_stands_in_redis_tells_kinds_and_clients_apart() {
        let address = Client::address("192.0.2.1".parse().unwrap());
        let key = Client::key("192.0.2.1".into());
        let all: std::collections::HashSet<Fingerprint> = [Kind::Read, Kind::Ingest, Kind::Failure]
            .iter()
            .flat_map(|kind| [address.fingerprint(*kind), key.fingerprint(*kind)])
            .collect();
        assert_eq!(all.len(), 6);
    }
}
