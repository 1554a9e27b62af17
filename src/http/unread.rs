//! Answering a request without reading its body.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Payload;
use actix_web::web::Bytes;

use super::error::ApiError;

/// The answer to a request that is refused, which holds on to what was not read of its body.
pub(super) fn refuse(error: &ApiError, payload: Payload) -> HttpResponse {
    hold(error.response(), payload)
}

/// An answer that holds on to what was not read of the body of its request.
pub(super) fn hold(response: HttpResponse, payload: Payload) -> HttpResponse {
    response.map_body(|_, said| Unread { said, _payload: payload }.boxed())
}

/// An answer, and what was not read of the body that it is the answer to.
///
/// Once nobody holds the payload of a chunked body, actix reads the rest of it and throws it away, for as long as it comes:
/// a client that is slow on purpose would keep its connection for ever. While the payload is held, actix answers, leaves
/// the client a second to read the answer, and closes.
struct Unread {
    said: BoxBody,
    _payload: Payload,
}

impl MessageBody for Unread {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.said.size()
    }

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().said).poll_next(context)
    }
}
