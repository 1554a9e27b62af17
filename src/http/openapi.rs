//! The description of the API at `/openapi.json` (OpenAPI 3.1), made from the code.
//!
//! What stands where: each operation at its handler (`#[utoipa::path]`), answers at their types (`ToSchema`), parameters in
//! [`parameters`] from the very constants that `params` and `questions` refuse by, statuses and headers in [`responses`] from
//! the very errors that are sent. Here it is put together. `tests/it/openapi.rs` holds it against the service.

pub(super) mod parameters;
pub(super) mod responses;

use std::sync::LazyLock;

use actix_web::{HttpRequest, HttpResponse};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, ObjectBuilder, RefOr, Schema, Type};
use utoipa::{Modify, OpenApi};

use super::error::Problem;
use super::{docs, jobs, page, questions, records};
use crate::cache::Body;
use crate::ingest::{IngestAnswer, Record};
use crate::jobs::{JobAnswer, JobsAnswer, StartedAnswer};
use crate::stats::{DailyAnswer, EndpointAnswer, OverviewAnswer, RankingAnswer, RequestsAnswer, SeriesAnswer};

/// How the security scheme is called in the document.
const KEY: &str = "apiKey";

/// What all operations below this path share: keys, limits of rate.
const API: &str = "/api/";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "endpoint-stats",
        description = "Which endpoints are the busiest, the slowest, the most failing, now and over the last month?\n\n\
            Counts, sums, minima and maxima are exact; a percentile is at most 4.4 % off. Times are in UTC, response times in \
            milliseconds. Whatever can be asked for with GET can be asked for with HEAD; other methods are answered 405. A \
            parameter that is not known is refused, so that a misspelt one is not overlooked.\n\n\
            Errors are `application/problem+json` (RFC 9457): look at `code`. Where an answer has `Retry-After`, the same \
            request may succeed after so many seconds.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    servers((url = "/", description = "This service")),
    tags(
        (name = "records", description = "Send what has happened"),
        (name = "questions", description = "Ask about it"),
        (name = "maintenance", description = "Look after the data; a key of the scope admin is needed"),
        (name = "service", description = "The service itself: pages and probes")
    ),
    paths(
        records::ingest,
        questions::top,
        questions::endpoint,
        questions::series,
        questions::requests,
        questions::overview,
        questions::daily,
        jobs::list,
        jobs::one,
        jobs::run,
        page::page,
        page::favicon,
        docs::page,
        docs::file,
        json,
        super::livez,
        super::readyz
    ),
    components(schemas(
        DailyAnswer,
        EndpointAnswer,
        IngestAnswer<'_>,
        JobAnswer,
        JobsAnswer,
        OverviewAnswer,
        Problem<'_>,
        RankingAnswer,
        Record,
        RequestsAnswer,
        SeriesAnswer,
        StartedAnswer
    )),
    modifiers(&Shared)
)]
struct Description;

/// Adds what operations share, so that it is written once.
struct Shared;

impl Modify for Shared {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_with(Components::new);
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API key. Where the service runs with `AUTH=off`, none is needed."))
            .build();
        components.security_schemes.insert(KEY.to_owned(), SecurityScheme::Http(scheme).into());
        responses::add_shared(components);
        for schema in components.schemas.values_mut() {
            add_warning(schema);
        }

        for (path, item) in &mut document.paths.paths {
            for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
                if path.starts_with(API) {
                    operation.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>(KEY, [])]);
                    responses::add_guards(&mut operation.responses);
                }
                responses::add_to_every(&mut operation.responses);
            }
        }
    }
}

/// Adds the field that every answer with the field `cache` has while it is out of date. Answers are kept as they are when
/// they are good, so their types do not know of it.
fn add_warning(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(answer)) if answer.properties.contains_key("cache") => {
            let warning = ObjectBuilder::new()
                .schema_type(Type::String)
                .description(Some("There if the answer is out of date: what is the matter, in words"));
            answer.properties.insert("warning".to_owned(), warning.into());
        }
        RefOr::T(Schema::AllOf(parts)) => parts.items.iter_mut().for_each(add_warning),
        _ => {}
    }
}

/// The document, made once.
static DOCUMENT: LazyLock<Body> = LazyLock::new(|| {
    // Fails only for maps with odd keys and for types that refuse themselves; the document has neither.
    Body::new(Description::openapi().to_json().unwrap_or_default().into())
});

/// This description.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "service",
    operation_id = "description",
    responses(
        (status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object),
        responses::Unchanged
    )
)]
pub(super) async fn json(request: HttpRequest) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.content_type("application/json");
    page::asset(&request, response, &DOCUMENT).await
}
