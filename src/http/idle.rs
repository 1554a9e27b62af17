//! Connections on which nothing is asked, or too much.
//!
//! actix limits the head of a connection's first request only: once a second one has begun, byte by byte, it may take for
//! ever, and an HTTP/2 connection may be kept without asking anything. As many of them as there may be connections, and
//! nobody else gets in. So each connection has a watch, which ends it when no request was under way for too long.
//!
//! Over HTTP/2 there is more that actix does not limit. A client that grants no room for an answer keeps it, and the
//! connection, for as long as it answers pings: it reads, so the kernel finds nothing wrong. And it may ask any number of
//! times at once. The watch ends a connection with an answer that is not taken in time, and one with too many under way.

use std::cell::Cell;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use actix_web::rt::task::JoinHandle;
use socket2::Socket;

/// Requests of one connection at once. Over HTTP/2 only; RFC 9113, section 6.5.2, asks for no fewer than 100, and proxies that
/// bundle the requests of many clients send some hundred. Clients are not told, since actix has no setting for it.
const UNDER_WAY_AT_ONCE: usize = 1_000;

/// What goes on on a connection. It stays on one thread, as actix' connections do.
#[derive(Debug)]
struct Activity {
    socket: Socket,
    under_way: Cell<usize>,
    /// When the last request was over.
    since: Cell<Instant>,
}

/// Looks after a connection until it is dropped with it.
#[derive(Debug)]
pub(super) struct Watch {
    activity: Rc<Activity>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Begins to look after a new connection.
    pub(super) fn begin(connection: &dyn std::any::Any, data: &mut Extensions, time: Duration) {
        let socket = if let Some(plain) = connection.downcast_ref::<TcpStream>() {
            plain.as_fd().try_clone_to_owned()
        } else if let Some(encrypted) = connection.downcast_ref::<TlsStream<TcpStream>>() {
            encrypted.get_ref().0.as_fd().try_clone_to_owned()
        } else {
            return;
        };
        // Without another descriptor the connection goes unwatched, as all would without this module.
        let Ok(socket) = socket.map(Socket::from) else { return };
        let activity = Rc::new(Activity { socket, under_way: Cell::new(0), since: Cell::new(Instant::now()) });
        let task = actix_web::rt::spawn(end_when_idle(Rc::clone(&activity), time));
        data.insert(Self { activity, task });
    }

    /// A request has arrived; it is under way until what is returned is dropped.
    pub(super) fn request(&self) -> UnderWay {
        let under_way = self.activity.under_way.get() + 1;
        self.activity.under_way.set(under_way);
        if under_way > UNDER_WAY_AT_ONCE {
            self.activity.end();
        }
        UnderWay { activity: Rc::clone(&self.activity), late: None }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Activity {
    /// actix reads the end of the connection, and closes it. An error means that it has ended already.
    fn end(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    activity: Rc<Activity>,
    late: Option<JoinHandle<()>>,
}

impl UnderWay {
    /// Ends the connection if the request is still under way at `instant`.
    pub(super) fn until(mut self, instant: Instant) -> Self {
        let activity = Rc::clone(&self.activity);
        self.late = Some(actix_web::rt::spawn(async move {
            actix_web::rt::time::sleep_until(instant.into()).await;
            activity.end();
        }));
        self
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(late) = self.late.take() {
            late.abort();
        }
        self.activity.under_way.set(self.activity.under_way.get() - 1);
        self.activity.since.set(Instant::now());
    }
}

async fn end_when_idle(activity: Rc<Activity>, time: Duration) {
    let mut until = activity.since.get() + time;
    loop {
        actix_web::rt::time::sleep_until(until.into()).await;
        let now = Instant::now();
        until = if activity.under_way.get() > 0 { now + time } else { activity.since.get() + time };
        if until <= now {
            activity.end();
            return;
        }
    }
}
