//! Finished answers, handed to actix in pieces.
//!
//! actix copies what it is given into the buffer of the connection, whole. An answer of megabytes would be in memory once for
//! each client that does not read it. In pieces, actix asks for the next one when the buffer is nearly empty, so a connection
//! holds three of them at most, and the answer itself is there once, shared with the cache.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::web::Bytes;

use super::idle::UnderWay;

/// Half of what actix buffers (32 KiB) before it waits for the client.
const PIECE_BYTES: usize = 16 * 1_024;

/// An answer of so many bytes has the time once more.
const BYTES_A_TIME: u64 = 1 << 20;

/// The rest of an answer, and until when it is given out.
struct Pieces {
    rest: Bytes,
    until: Instant,
    _under_way: Option<UnderWay>,
}

/// `body` in pieces, to be taken in `time`, and once more for each mebibyte; a body that is not finished stays as it is.
/// The request is under way until the last piece is given out. Over `http_2` a small one is a piece as well: it waits until
/// the client has room for it, and there may be any number of them.
pub(super) fn in_pieces(body: BoxBody, time: Duration, under_way: Option<UnderWay>, http_2: bool) -> BoxBody {
    // No body is not an empty one; as bytes they would be the same.
    if body.size() == BodySize::None {
        return body;
    }
    match body.try_into_bytes() {
        Ok(rest) if rest.len() > PIECE_BYTES || (http_2 && !rest.is_empty()) => {
            let times = 1 + u32::try_from(rest.len() as u64 / BYTES_A_TIME).unwrap_or(u32::MAX - 1);
            let until = Instant::now() + time.saturating_mul(times);
            // Nobody asks for the next piece while a client grants no room, so the connection is ended from outside.
            let under_way = under_way.map(|under_way| under_way.until(until));
            BoxBody::new(Pieces { until, rest, _under_way: under_way })
        }
        Ok(small) => BoxBody::new(small),
        Err(body) => body,
    }
}

/// The client reads too slowly: actix closes the connection.
#[derive(Debug, thiserror::Error)]
#[error("an answer was not taken in time")]
struct NotTaken;

impl MessageBody for Pieces {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.len() as u64)
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            return Poll::Ready(None);
        }
        // A client that takes a byte now and then never falls silent for the kernel; here it runs out of time.
        if Instant::now() > this.until {
            return Poll::Ready(Some(Err(NotTaken.into())));
        }
        Poll::Ready(Some(Ok(this.rest.split_to(this.rest.len().min(PIECE_BYTES)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(body: &mut BoxBody) -> Option<Result<usize, String>> {
        match Pin::new(body).poll_next(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(next) => next.map(|piece| piece.map(|piece| piece.len()).map_err(|error| error.to_string())),
            Poll::Pending => panic!("finished answers do not wait"),
        }
    }

    #[test]
    fn an_answer_comes_in_pieces_and_whole() {
        let mut body = in_pieces(BoxBody::new(vec![b'x'; 2 * PIECE_BYTES + 1]), Duration::from_secs(1), None, false);
        assert_eq!(body.size(), BodySize::Sized(2 * PIECE_BYTES as u64 + 1));
        for length in [PIECE_BYTES, PIECE_BYTES, 1] {
            assert_eq!(next(&mut body), Some(Ok(length)));
        }
        assert_eq!(next(&mut body), None);
    }

    #[test]
    fn an_answer_that_is_not_taken_in_time_ends_with_an_error() {
        let mut body = in_pieces(BoxBody::new(vec![b'x'; 2 * PIECE_BYTES]), Duration::ZERO, None, false);
        assert_eq!(next(&mut body), Some(Err(NotTaken.to_string())));
    }
}
