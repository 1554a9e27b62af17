//! Which form of a body a client gets.

use actix_web::http::header::{self, AcceptEncoding, Encoding as Token, Header as _};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};

use crate::cache::{Body, Encoding};

/// Bodies over this are compressed on a thread of their own, so that other requests of this worker do not wait for it: at
/// some 50 MB/s, a millisecond.
const COMPRESSED_IN_PLACE_BYTES: usize = 64 * 1024;

/// `response` with the form of `body` that the client prefers among those it takes.
pub(super) async fn send(request: &HttpRequest, mut response: HttpResponseBuilder, body: &Body) -> HttpResponse {
    if let Some(encoding) = preferred(request) {
        let is_small = body.plain().len() <= COMPRESSED_IN_PLACE_BYTES;
        let compressed = if is_small || body.is_compressed(encoding) {
            body.compressed(encoding)
        } else {
            let body = body.clone();
            // Fails only if the thread does; the body then goes as it is.
            web::block(move || body.compressed(encoding)).await.ok().flatten()
        };
        if let Some(bytes) = compressed {
            return response.insert_header((header::CONTENT_ENCODING, encoding.name())).body(bytes);
        }
    }
    response.body(body.plain().clone())
}

/// RFC 9110, section 12.5.3: the one with the highest weight; of equals the one that stands first in [`Encoding::ALL`], which is
/// actix' order too. A client that refuses everything, the body as it is included, gets it as it is.
fn preferred(request: &HttpRequest) -> Option<Encoding> {
    if !request.headers().contains_key(header::ACCEPT_ENCODING) {
        return None;
    }
    let accepted = AcceptEncoding::parse(request).ok()?;
    let ours = Encoding::ALL.map(|encoding| (token(encoding), encoding));
    let chosen = accepted.negotiate(ours.iter().map(|(token, _)| token))?;
    ours.into_iter().find(|(token, _)| *token == chosen).map(|(_, encoding)| encoding)
}

fn token(encoding: Encoding) -> Token {
    match encoding {
        Encoding::Brotli => Token::brotli(),
        Encoding::Zstd => Token::zstd(),
        Encoding::Gzip => Token::gzip(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn the_client_chooses() {
        let chosen = |accepted: &str| {
            let request = TestRequest::default().insert_header((header::ACCEPT_ENCODING, accepted)).to_http_request();
            preferred(&request).map(Encoding::name)
        };
        assert_eq!(chosen("gzip"), Some("gzip"));
        assert_eq!(chosen("gzip;q=0.5, br;q=0.8, zstd;q=0.1"), Some("br"));
        assert_eq!(chosen("deflate, zstd"), Some("zstd"));
        // As browsers ask.
        assert_eq!(chosen("gzip, deflate, br, zstd"), Some("br"));
        assert_eq!(chosen("gzip, deflate, zstd"), Some("zstd"));
        for as_it_is in ["identity", "deflate", "", "br;q=0", "*;q=0", "gzip;q=nonsense"] {
            assert_eq!(chosen(as_it_is), None, "{as_it_is}");
        }
        assert_eq!(preferred(&TestRequest::default().to_http_request()), None);
    }
}
