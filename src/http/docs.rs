//! The reference of the API at `/docs`: Swagger UI from this program, which describes `/openapi.json`.
//!
//! Nothing comes from elsewhere, and the policy lets nothing go elsewhere: the page works without the internet, and tells
//! nobody what is looked at.

use std::sync::{Arc, LazyLock};

use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use utoipa_swagger_ui::Config;

use super::error::ApiError;
use super::openapi::responses;
use super::page;
use crate::cache::Body;

/// The page.
const PAGE: &str = include_str!("docs.html");

/// What starts it: a file of its own, since the policy runs no script that stands in a page.
const START: &str = include_str!("docs.js");

/// The files of Swagger UI that the page names. There are more in the package (its own page, maps, a page for OAuth):
/// they are not needed, so they are not offered.
const FILES: [&str; 3] = ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"];

/// Scripts, styles and questions of this service only; Swagger UI draws its icons from data. It sets styles by script, not in
/// markup, so it needs no 'unsafe-inline'.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The reference of the API, for people.
#[utoipa::path(
    get,
    path = "/docs",
    tag = "service",
    operation_id = "reference",
    responses((status = 200, description = "The page", content_type = "text/html", body = String), responses::Unchanged)
)]
pub(super) async fn page(request: HttpRequest) -> HttpResponse {
    static BODY: LazyLock<Body> = LazyLock::new(|| Body::new(Bytes::from_static(PAGE.as_bytes())));
    send(&request, "text/html; charset=utf-8", &BODY).await
}

/// A file of the reference.
#[utoipa::path(
    get,
    path = "/docs/{file}",
    tag = "service",
    operation_id = "referenceFile",
    params(("file" = String, Path, description = "One that the page names", example = "start.js")),
    responses(
        (status = 200, description = "The file", content(
            (String = "text/css"), (String = "text/javascript"), (String = "image/png")
        )),
        responses::Unchanged,
        responses::NoSuchPage
    )
)]
pub(super) async fn file(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let name = request.match_info().get("file").unwrap_or_default();
    let (_, content_type, body) = BODIES.iter().find(|(file, ..)| *file == name).ok_or(ApiError::NoSuchPage)?;
    Ok(send(&request, content_type, body).await)
}

/// Each file with its type; in the process as it is sent, so that the large script is compressed once.
static BODIES: LazyLock<Vec<(&str, String, Body)>> = LazyLock::new(|| {
    let start = ("start.js", "text/javascript".to_owned(), Body::new(Bytes::from_static(START.as_bytes())));
    let files = FILES.into_iter().filter_map(|name| {
        // Fails only for the package's own starting script, which is not among the files.
        let file = utoipa_swagger_ui::serve(name, Arc::new(Config::default())).ok().flatten()?;
        Some((name, file.content_type, Body::new(file.bytes.into_owned().into())))
    });
    std::iter::once(start).chain(files).collect()
});

async fn send(request: &HttpRequest, content_type: &str, body: &Body) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.content_type(content_type).insert_header((header::CONTENT_SECURITY_POLICY, POLICY));
    page::asset(request, response, body).await
}
