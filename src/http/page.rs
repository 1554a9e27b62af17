//! The page at `/`: one file, its script and style inline, held to them by its Content-Security-Policy.

use std::sync::LazyLock;

use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use sha2::{Digest as _, Sha256};

use super::encoding;
use super::headers::Keep;
use super::openapi::responses;
use crate::cache::Body;

/// The page at `/`.
const PAGE: &str = include_str!("page.html");

/// Lets the page run its own script and style and ask this service, and nothing else: should a text of a client ever become
/// markup, it would load, send and run nothing. Hashes and not 'unsafe-inline', which would run just such a script; hashes
/// and not a nonce, since caches keep the page.
static PAGE_POLICY: LazyLock<String> = LazyLock::new(|| {
    let (script, style) = (hash_of_inline("script"), hash_of_inline("style"));
    format!(
        "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// The hash of what stands between the tags `tag` of the page, as a policy names it.
fn hash_of_inline(tag: &str) -> String {
    let inside = PAGE.split_once(&format!("<{tag}>")).and_then(|(_, rest)| rest.split_once(&format!("</{tag}>")));
    BASE64_STANDARD.encode(Sha256::digest(inside.map_or("", |(inside, _)| inside)))
}

/// What browsers ask for by themselves: three bars, the last of them red.
const FAVICON: &[u8] = include_bytes!("favicon.ico");

/// The dashboard.
#[utoipa::path(
    get,
    path = "/",
    tag = "service",
    operation_id = "dashboard",
    responses((status = 200, description = "The page", content_type = "text/html", body = String), responses::Unchanged)
)]
pub(super) async fn page(request: HttpRequest) -> HttpResponse {
    static BODY: LazyLock<Body> = LazyLock::new(|| Body::new(Bytes::from_static(PAGE.as_bytes())));
    let mut response = HttpResponse::Ok();
    response
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, PAGE_POLICY.as_str()));
    asset(&request, response, &BODY).await
}

/// The icon of this service.
#[utoipa::path(
    get,
    path = "/favicon.ico",
    tag = "service",
    operation_id = "icon",
    responses((status = 200, description = "The icon", content_type = "image/x-icon", body = Vec<u8>), responses::Unchanged)
)]
pub(super) async fn favicon(request: HttpRequest) -> HttpResponse {
    static BODY: LazyLock<Body> = LazyLock::new(|| Body::new(Bytes::from_static(FAVICON)));
    let mut response = HttpResponse::Ok();
    response.content_type("image/x-icon");
    asset(&request, response, &BODY).await
}

/// Something that changes only with the program.
pub(super) async fn asset(request: &HttpRequest, response: HttpResponseBuilder, body: &Body) -> HttpResponse {
    let mut response = encoding::send(request, response, body).await;
    response.extensions_mut().insert(Keep::Asset { etag: body.fingerprint() });
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_but_itself() {
        for tag in ["script", "style"] {
            assert_eq!(PAGE.matches(&format!("<{tag}")).count(), 1, "one <{tag}>, without attributes");
            assert_ne!(hash_of_inline(tag), BASE64_STANDARD.encode(Sha256::digest("")), "{tag}");
        }
        for outside in ["http:", "https:", "//cdn", "@import", "url(", " src=", "innerHTML", " style=", " onclick="] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
    }
}
