//! The socket, and how long and how many clients may hold on to it.
//!
//! actix limits the head of a connection's first request and an idle connection, `idle.rs` the heads of further ones,
//! `body.rs` a body. A client that does not take its answer is the kernel's to see (`TCP_USER_TIMEOUT`) and `pieces.rs`';
//! over HTTP/2, where it may read on and take nothing, `idle.rs`'.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Connections the kernel holds until a worker takes them, as many as actix asks for. Linux cuts it to `somaxconn`, 4,096.
const BACKLOG: i32 = 1_024;

/// Connections at once, all workers together; further ones wait in the backlog. One that has begun a body costs
/// 29 KiB here, one that does not read a large answer 51, so the most there can be take 58 to 102 of 128 MiB. actix would
/// take 25,600 for each worker.
const CONNECTIONS: usize = 2_048;

/// Open files that are not clients': connections to Postgres and Redis, the log, the page being read.
const OTHER_FILES: usize = 200;

/// Connections at once: fewer where the system allows fewer open files, of which each takes two (see `idle.rs`). Out of
/// files, the service could not reach its database either.
pub(super) fn connections() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok());
    files.map_or(CONNECTIONS, |files: usize| (files.saturating_sub(OTHER_FILES) / 2).clamp(1, CONNECTIONS))
}

/// What the kernel keeps of an answer that a client has not taken, bytes; Linux doubles it. Left to itself it grows to
/// 4 MiB a connection, which counts as the container's memory. Enough for 2.5 MB/s to a client 100 ms away.
const SEND_BUFFER_BYTES: usize = 128 * 1_024;

/// How long a client may take. Tests shorten it.
#[derive(Debug, Clone, Copy)]
pub struct TimeOuts {
    /// For the TLS handshake. A client far away with a bad line needs one.
    pub handshake: Duration,
    /// For the head of a request.
    pub head: Duration,
    /// To begin the next request. Longer than the minute that balancers keep a connection: of the two the balancer must be the
    /// one that closes it, or a request may be on its way into a connection that is gone.
    pub idle: Duration,
    /// For the body of a request.
    pub body: Duration,
    /// To take something of an answer; and to take all of it, once more for each mebibyte it has: 52 kB/s, a bad mobile
    /// connection.
    pub written: Duration,
    /// Between two looks at the certificate. Those who replace it do so days before it expires.
    pub certificate: Duration,
}

impl Default for TimeOuts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(3),
            head: Duration::from_secs(5),
            idle: Duration::from_secs(75),
            body: Duration::from_secs(15),
            written: Duration::from_secs(20),
            certificate: Duration::from_secs(60),
        }
    }
}

/// Binds `address`. Accepted sockets inherit what is set here.
///
/// # Errors
/// An I/O error if the address cannot be had.
pub fn bind(address: SocketAddr, time_outs: TimeOuts) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart need not wait until the connections of the process before it are forgotten.
    socket.set_reuse_address(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    // Ends a connection that takes nothing for so long, whether the peer is gone or just does not read.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(time_outs.written))?;
    #[cfg(not(target_os = "linux"))]
    let _ = time_outs;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn an_accepted_socket_has_what_was_set_on_the_listening_one() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0)), TimeOuts::default()).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = Socket::from(listener.accept().unwrap().0);
        assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(Duration::from_secs(20)));
        assert_eq!(accepted.send_buffer_size().unwrap(), 2 * SEND_BUFFER_BYTES);
    }

    #[test]
    fn the_times_are_those_that_are_documented() {
        let TimeOuts { handshake, head, idle, body, written, certificate } = TimeOuts::default();
        let seconds = [handshake, head, idle, body, written, certificate].map(|time| time.as_secs());
        assert_eq!(seconds, [3, 5, 75, 15, 20, 60]);
    }
}
