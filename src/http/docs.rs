//! The reference of the API at `/docs`: Swagger UI from this program, which describes `/openapi.json`.
//!
//! Nothing comes from elsewhere, and the policy lets nothing go elsewhere: the page works without the internet, and tells
//! nobody what is looked at.

use std::sync::Arc;

use actix_web::http::header::{self, ContentType};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use utoipa_swagger_ui::Config;

use super::error::ApiError;
use super::openapi::responses;

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
    responses((status = 200, description = "The page", content_type = "text/html", body = String))
)]
pub(super) async fn page() -> HttpResponse {
    kept(HttpResponse::Ok()).content_type(ContentType::html()).body(PAGE)
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
        responses::NoSuchPage
    )
)]
pub(super) async fn file(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let name = request.match_info().get("file").unwrap_or_default();
    if name == "start.js" {
        return Ok(kept(HttpResponse::Ok()).content_type("text/javascript").body(START));
    }
    let known = FILES.into_iter().find(|file| *file == name).ok_or(ApiError::NoSuchPage)?;
    // Fails only for the package's own starting script, which is not among the files.
    let file =
        utoipa_swagger_ui::serve(known, Arc::new(Config::default())).ok().flatten().ok_or(ApiError::NoSuchPage)?;
    Ok(kept(HttpResponse::Ok()).content_type(file.content_type).body(file.bytes.into_owned()))
}

/// An hour: names do not change with the version, and after an upgrade page and files should soon agree.
fn kept(mut response: HttpResponseBuilder) -> HttpResponseBuilder {
    response
        .insert_header((header::CACHE_CONTROL, "public, max-age=3600"))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
    response
}
