//! HTTP/2, frame by frame (RFC 9113): what a client may keep of a connection that it shares with nobody.
//!
//! Over HTTP/2 the kernel sees nothing of a client that does not take its answer: it reads, and grants no room.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use endpoint_stats::http::TimeOuts;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::{Authority, der};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
const END_STREAM_AND_HEADERS: u8 = 5;

/// `SETTINGS_INITIAL_WINDOW_SIZE` of 0: no byte of any answer may be sent.
const NO_ROOM: [u8; 6] = [0, 4, 0, 0, 0, 0];

/// A client that speaks HTTP/2 as it likes.
struct Frames(StreamOwned<ClientConnection, TcpStream>);

impl Frames {
    /// Connects, with these settings.
    fn to(authority: &Authority, address: SocketAddr, settings: &[u8]) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(der(&authority.issuer.pem()))).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let session = ClientConnection::new(Arc::new(config), "127.0.0.1".try_into().unwrap()).unwrap();
        let socket = TcpStream::connect(address).unwrap();
        let mut frames = Self(StreamOwned::new(session, socket));
        frames.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        frames.send(SETTINGS, 0, 0, settings);
        frames
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        // The service may have ended the connection, which is for `until_the_end` to find.
        let _ = self.0.write_all(&frame);
    }

    /// Asks, on a stream of its own.
    fn get(&mut self, stream: u32, path: &str) {
        // From the static table: GET, https; then the path and the authority, as they are.
        let mut block = vec![0x82, 0x87, 0x04, path.len() as u8];
        block.extend(path.as_bytes());
        block.extend(b"\x01\x04test");
        self.send(HEADERS, END_STREAM_AND_HEADERS, stream, &block);
    }

    /// Answers to pings, and takes what comes, until the service closes the connection: how many answers have begun, how
    /// many bytes of them came, and when it closed, if it did within `time`.
    fn until_the_end(mut self, time: Duration) -> (usize, usize, Option<Duration>) {
        let began = Instant::now();
        let (mut answers, mut bytes, mut said) = (0, 0, Vec::new());
        self.0.sock.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        while began.elapsed() < time {
            let mut chunk = [0; 4_096];
            match self.0.read(&mut chunk) {
                Ok(0) => return (answers, bytes, Some(began.elapsed())),
                Ok(read) => said.extend(&chunk[..read]),
                Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {}
                Err(_) => return (answers, bytes, Some(began.elapsed())),
            }
            while said.len() >= 9 {
                let length = u32::from_be_bytes([0, said[0], said[1], said[2]]) as usize;
                if said.len() < 9 + length {
                    break;
                }
                let frame: Vec<u8> = said.drain(..9 + length).collect();
                match frame[3] {
                    PING if frame[4] & ACK == 0 => self.send(PING, ACK, 0, &frame[9..]),
                    SETTINGS if frame[4] & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]),
                    HEADERS => answers += 1,
                    DATA => bytes += length,
                    _ => {}
                }
            }
        }
        (answers, bytes, None)
    }
}

/// An answer of more than a piece, which anybody may ask for.
const LARGE: &str = "/docs/swagger-ui-bundle.js";

#[tokio::test(flavor = "multi_thread")]
async fn f18_over_http_2_a_client_that_grants_no_room_for_its_answer_loses_its_connection() {
    let short = Duration::from_secs(1);
    let authority = Authority::new();
    let app = authority.serve(TimeOuts { written: short, idle: short, head: short, ..TimeOuts::default() }).await;
    for path in [LARGE, "/livez"] {
        let mut client = Frames::to(&authority, app.address, &NO_ROOM);
        client.get(1, path);
        let ended = tokio::task::spawn_blocking(move || client.until_the_end(Duration::from_secs(12))).await.unwrap();
        println!("{path}: {ended:?}");
        assert_eq!((ended.0, ended.1), (1, 0), "{path}: the head, and nothing else");
        assert!(ended.2.is_some(), "{path}: the connection is still there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_2_a_connection_has_so_many_requests_under_way_and_no_more() {
    let authority = Authority::new();
    let app = authority.serve(TimeOuts::default()).await;
    // As many as one may have wait side by side, and are answered once there is room.
    let mut client = Frames::to(&authority, app.address, &NO_ROOM);
    for n in 0..900 {
        client.get(2 * n + 1, "/livez");
    }
    client.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0x40, 0]);
    let (answers, bytes, ended) =
        tokio::task::spawn_blocking(move || client.until_the_end(Duration::from_secs(3))).await.unwrap();
    assert_eq!((answers, bytes, ended), (900, 900 * "alive\n".len(), None));

    let mut client = Frames::to(&authority, app.address, &NO_ROOM);
    for n in 0..5_000 {
        client.get(2 * n + 1, "/livez");
    }
    let (answers, bytes, ended) =
        tokio::task::spawn_blocking(move || client.until_the_end(Duration::from_secs(3))).await.unwrap();
    println!("{answers} answers have begun, {ended:?}");
    assert!(ended.is_some(), "{answers} answers wait for room on one connection");
    assert_eq!(bytes, 0);
}
