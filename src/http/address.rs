//! Where a request comes from.
//!
//! The peer of the connection, unless that is a trusted proxy. Each proxy appends to `X-Forwarded-For` the address that it was
//! asked from, so the last that no trusted proxy stands behind is the client's; whatever stands before it, the client may
//! have made up. `Forwarded` (RFC 7239) is not read: a proxy that writes only the one passes the other on as the client
//! sent it, so to read both would be to believe the client.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use actix_web::HttpRequest;
use actix_web::http::header::HeaderValue;
use ipnet::IpNet;

/// The client's address.
pub(super) fn of(request: &HttpRequest, trusted: &[IpNet]) -> IpAddr {
    // There is a peer wherever there is a socket.
    let peer = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    client(peer, request.headers().get_all("X-Forwarded-For"), trusted)
}

/// The address behind `peer` and the proxies that are trusted. If `forwarded` holds something else before a client is found,
/// the peer; if it holds only proxies, the first of them.
fn client<'h>(peer: IpAddr, forwarded: impl Iterator<Item = &'h HeaderValue>, trusted: &[IpNet]) -> IpAddr {
    let peer = peer.to_canonical();
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    if !is_trusted(peer) {
        return peer;
    }
    let lines: Vec<&[u8]> = forwarded.map(HeaderValue::as_bytes).collect();
    let mut nearest = peer;
    for element in lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b',')) {
        let element = element.trim_ascii();
        if element.is_empty() {
            continue;
        }
        let Some(address) = address(element) else { return peer };
        nearest = address;
        if !is_trusted(address) {
            break;
        }
    }
    nearest
}

/// An address, with or without a port: some proxies write it.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip())).ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proxy and its network, and one of IPv6.
    const TRUSTED: [&str; 3] = ["10.0.0.0/8", "192.168.7.7/32", "2001:db8:ffff::/48"];

    #[test]
    fn the_client_is_the_last_that_no_trusted_proxy_stands_behind() {
        let trusted = TRUSTED.map(|network| network.parse::<IpNet>().unwrap());
        let cases: [(&str, &[&str], &str); 24] = [
            // No proxy of ours: whatever is claimed.
            ("203.0.113.9", &[], "203.0.113.9"),
            ("203.0.113.9", &["198.51.100.1"], "203.0.113.9"),
            ("203.0.113.9", &["10.0.0.1"], "203.0.113.9"),
            ("192.168.7.8", &["198.51.100.1"], "192.168.7.8"),
            ("2001:db8:fffe::1", &["198.51.100.1"], "2001:db8:fffe::1"),
            // One proxy.
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("192.168.7.7", &["198.51.100.1"], "198.51.100.1"),
            ("2001:db8:ffff::1", &["2001:db8:1::1"], "2001:db8:1::1"),
            ("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            // What the client claims stands before what the proxy saw.
            ("10.0.0.1", &["1.2.3.4, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["1.2.3.4", "198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["10.0.0.2, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["<script>, , 198.51.100.1"], "198.51.100.1"),
            // Several proxies.
            ("10.0.0.1", &["1.2.3.4, 198.51.100.1, 10.0.0.3", "10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // Nothing of use: the peer.
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["", " , ,"], "10.0.0.1"),
            ("10.0.0.1", &["unknown"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1, 999.1.1.1"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1, unknown, 10.0.0.2"], "10.0.0.1"),
            // As proxies write it.
            ("10.0.0.1", &[" 198.51.100.1 ,"], "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("10.0.0.1", &["[2001:db8:1::1]:4711"], "2001:db8:1::1"),
        ];
        for (peer, lines, expected) in cases {
            let lines: Vec<HeaderValue> = lines.iter().map(|line| line.parse().unwrap()).collect();
            let found = client(peer.parse().unwrap(), lines.iter(), &trusted);
            assert_eq!(found.to_string(), expected, "{peer}: {lines:?}");
        }
    }
}
