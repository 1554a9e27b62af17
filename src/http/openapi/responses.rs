//! What operations answer: statuses, headers, bodies. The statuses of errors are those that the errors themselves have.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use chrono::NaiveDate;
use serde_json::json;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::{
    ArrayBuilder, Components, Content, ContentBuilder, ObjectBuilder, OneOfBuilder, Ref, RefOr, Response, Responses,
    Schema, Type,
};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

use super::super::error::ApiError;
use super::super::listen::TimeOuts;
use crate::domain::{OffTheHour, Scope, Zone};
use crate::ingest::{IngestAnswer, InvalidBody, Record};
use crate::jobs::StartedAnswer;

type All = BTreeMap<String, RefOr<Response>>;

/// An answer as JSON.
pub(in crate::http) struct Whole<T>(PhantomData<T>);

impl<T: ToSchema> IntoResponses for Whole<T> {
    fn responses() -> All {
        answers(good::<T>(), &read())
    }
}

/// An answer with rows, as JSON or CSV.
pub(in crate::http) struct Table<T>(PhantomData<T>);

impl<T: ToSchema> IntoResponses for Table<T> {
    fn responses() -> All {
        let rows = ObjectBuilder::new().schema_type(Type::String).description(Some(
            "A header and the rows (RFC 4180), with the fields of `rows` as columns; null is empty. A text that a \
             spreadsheet would run as a formula has a `'` in front.",
        ));
        let good = good::<T>().content("text/csv", ContentBuilder::new().schema(Some(rows)).build());
        answers(good, &read().into_iter().chain(off_the_hour()).collect::<Vec<_>>())
    }
}

/// An answer about one endpoint.
pub(in crate::http) struct OfEndpoint<T>(PhantomData<T>);

impl<T: ToSchema> IntoResponses for OfEndpoint<T> {
    fn responses() -> All {
        answers(good::<T>(), &of_endpoint([]))
    }
}

/// An answer about one endpoint, in steps.
pub(in crate::http) struct OfSeries<T>(PhantomData<T>);

impl<T: ToSchema> IntoResponses for OfSeries<T> {
    fn responses() -> All {
        let finer = ApiError::FinerThanKept { since: "2026-11-19T10:00:00Z".to_owned() };
        answers(good::<T>(), &of_endpoint(off_the_hour().into_iter().chain([finer])))
    }
}

/// The answer to records.
pub(in crate::http) struct Ingest;

impl IntoResponses for Ingest {
    fn responses() -> All {
        let told = |description: &str| {
            ResponseBuilder::new().description(description).content(
                "application/json",
                ContentBuilder::new().schema(Some(reference::<IngestAnswer<'_>>())).build(),
            )
        };
        let stored = told("At least one record is committed, or there was none in the body")
            .header_ref("Idempotency-Replayed", header_ref("Idempotency-Replayed"));
        let rejected = told("No record was good; the answer names what is wrong. Or a problem:");
        let problems = [
            ApiError::InvalidBody(InvalidBody::NotJson("expected value at line 1 column 1".to_owned())),
            ApiError::InvalidBody(InvalidBody::NotUtf8(17)),
            ApiError::CorruptEncoding,
            ApiError::InvalidKey,
            ApiError::parameter("limit", "is not known here"),
            ApiError::BodyTooSlow { within: TimeOuts::default().body },
            ApiError::NoRoom,
            ApiError::KeyHeld,
            ApiError::BodyTooLarge { limit: 16 << 20 },
            ApiError::UnsupportedType,
            ApiError::UnsupportedEncoding,
            ApiError::KeyReused,
            ApiError::QueueFull,
            ApiError::Stopping,
            ApiError::Unavailable,
            ApiError::StorageFull,
            ApiError::TimedOut,
            ApiError::CommitUnknown,
            ApiError::NotStored,
        ];
        let mut all = problems_by_status(&problems);
        all.insert("200".to_owned(), stored.into());
        if let Some(RefOr::T(refused)) = all.remove("422") {
            all.insert("422".to_owned(), merged(rejected.build(), refused).into());
        }
        all
    }
}

/// An answer about maintenance.
pub(in crate::http) struct Maintenance<T>(PhantomData<T>);

impl<T: ToSchema> IntoResponses for Maintenance<T> {
    fn responses() -> All {
        maintenance::<T>([])
    }
}

/// An answer about one job.
pub(in crate::http) struct OfJob<T>(PhantomData<T>);

impl<T: ToSchema> IntoResponses for OfJob<T> {
    fn responses() -> All {
        maintenance::<T>([ApiError::NoSuchJob])
    }
}

/// The answer to asking for a run of a job.
pub(in crate::http) struct RunOfJob;

impl IntoResponses for RunOfJob {
    fn responses() -> All {
        let mut problems = asked();
        problems.extend([ApiError::NoSuchJob, ApiError::JobRunning]);
        let mut all = problems_by_status(&problems);
        let begun = ResponseBuilder::new()
            .description("It is at work")
            .content("application/json", content::<StartedAnswer>())
            .header_ref("Location", header_ref("Location"));
        all.insert("202".to_owned(), begun.into());
        all
    }
}

fn maintenance<T: ToSchema>(more: impl IntoIterator<Item = ApiError>) -> All {
    let problems: Vec<_> = asked().into_iter().chain(more).collect();
    let mut all = problems_by_status(&problems);
    let told = ResponseBuilder::new().description("The answer").content("application/json", content::<T>());
    all.insert("200".to_owned(), told.into());
    all
}

/// What is at hand still holds: for pages and files.
pub(in crate::http) struct Unchanged;

impl IntoResponses for Unchanged {
    fn responses() -> All {
        let unchanged = ResponseBuilder::new().description("What is at hand still holds; no body").build();
        [("304".to_owned(), unchanged.into())].into()
    }
}

/// No such page: what a file of a page that is not there is answered.
pub(in crate::http) struct NoSuchPage;

impl IntoResponses for NoSuchPage {
    fn responses() -> All {
        problems_by_status(&[ApiError::NoSuchPage])
    }
}

/// The body of records as JSON.
pub(in crate::http) struct Records;

impl ToSchema for Records {}

impl PartialSchema for Records {
    fn schema() -> RefOr<Schema> {
        let one = reference::<Record>();
        let many = ArrayBuilder::new().items(one.clone());
        OneOfBuilder::new().item(one).item(many).into()
    }
}

/// The body of records as lines.
pub(in crate::http) struct RecordLines;

impl ToSchema for RecordLines {}

impl PartialSchema for RecordLines {
    fn schema() -> RefOr<Schema> {
        let line = r#"{"timestamp":"2026-11-21T10:00:00Z","method":"GET","path":"/items/17","status":200}"#;
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("A record a line; empty lines are passed over and have no index"))
            .examples([format!("{line}\n{line}\n")])
            .into()
    }
}

/// What may go wrong with any question.
fn read() -> Vec<ApiError> {
    vec![
        ApiError::parameter("limit", "must be a whole number from 1 to 1000"),
        ApiError::Unavailable,
        ApiError::StorageFull,
        ApiError::TimedOut,
        ApiError::Internal,
    ]
}

/// What may go wrong with days of a time zone.
fn off_the_hour() -> Option<ApiError> {
    // Both are there, see the test below.
    let (zone, day) = ("Asia/Kolkata".parse::<Zone>().ok()?, NaiveDate::from_ymd_opt(2026, 11, 21)?);
    Some(ApiError::OffTheHour(OffTheHour { zone, day, begins: zone.start_of(day) }))
}

/// What may go wrong with whatever is asked of maintenance.
fn asked() -> Vec<ApiError> {
    vec![
        ApiError::parameter("limit", "is not known here"),
        ApiError::Unavailable,
        ApiError::StorageFull,
        ApiError::TimedOut,
        ApiError::Internal,
    ]
}

/// What may go wrong with a question about one endpoint.
fn of_endpoint(more: impl IntoIterator<Item = ApiError>) -> Vec<ApiError> {
    read().into_iter().chain([ApiError::NoSuchEndpoint]).chain(more).collect()
}

fn good<T: ToSchema>() -> ResponseBuilder {
    with_caching(ResponseBuilder::new().description("The answer")).content("application/json", content::<T>())
}

fn content<T: ToSchema>() -> Content {
    ContentBuilder::new().schema(Some(reference::<T>())).build()
}

fn answers(good: ResponseBuilder, problems: &[ApiError]) -> All {
    let unchanged = with_caching(ResponseBuilder::new().description("The answer that is at hand still holds; no body"));
    let mut all = problems_by_status(problems);
    all.insert("200".to_owned(), good.into());
    all.insert("304".to_owned(), unchanged.into());
    all
}

/// The headers of every answer to a question.
fn with_caching(response: ResponseBuilder) -> ResponseBuilder {
    ["Age", "Warning", "X-Cache"]
        .into_iter()
        .fold(response, |response, name| response.header_ref(name, header_ref(name)))
}

/// A response for each status, with an example for each code.
fn problems_by_status(problems: &[ApiError]) -> All {
    let mut by_status: BTreeMap<u16, Vec<&ApiError>> = BTreeMap::new();
    for problem in problems {
        by_status.entry(problem.told().status.as_u16()).or_default().push(problem);
    }
    let response = |problems: Vec<&ApiError>| {
        let said: Vec<_> = problems.iter().map(|problem| problem.told()).collect();
        let lines: Vec<String> = said.iter().map(|told| format!("- `{}`: {}", told.code, told.title)).collect();
        let examples = said
            .iter()
            .map(|told| (told.code, ExampleBuilder::new().summary(told.title).value(Some(json!(told.problem())))));
        let content = ContentBuilder::new().schema(Some(problem())).examples_from_iter(examples).build();
        let mut response =
            ResponseBuilder::new().description(lines.join("\n")).content("application/problem+json", content);
        if said.iter().any(|told| told.retry_after.is_some()) {
            response = response.header_ref("Retry-After", header_ref("Retry-After"));
        }
        response.into()
    };
    by_status.into_iter().map(|(status, problems)| (status.to_string(), response(problems))).collect()
}

/// Adds what stands before every operation of the API: keys and limits of rate.
pub(super) fn add_guards(responses: &mut Responses) {
    let guards = [
        ApiError::KeyInUrl,
        ApiError::TwoAuthorizations,
        ApiError::Unauthorized { presented: false },
        ApiError::Forbidden { wanted: Scope::Read },
        ApiError::RateLimited { retry_after: 1 },
        ApiError::Unavailable,
    ];
    for (status, guard) in problems_by_status(&guards) {
        let guard = match (responses.responses.remove(&status), guard) {
            (Some(RefOr::T(known)), RefOr::T(guard)) => merged(known, guard).into(),
            (_, guard) => guard,
        };
        responses.responses.insert(status, guard);
    }
    for (status, response) in &mut responses.responses {
        let RefOr::T(response) = response else { continue };
        let asks_for_a_key = (status == "401").then_some("WWW-Authenticate");
        for name in ["RateLimit"].into_iter().chain(asks_for_a_key) {
            response.headers.insert(name.to_owned(), RefOr::Ref(header_ref(name)));
        }
    }
}

/// Two answers of one status in one description.
fn merged(mut known: Response, more: Response) -> Response {
    let lines = more.description.lines().filter(|line| !known.description.contains(*line));
    known.description = std::iter::once(known.description.as_str()).chain(lines).collect::<Vec<_>>().join("\n");
    known.headers.extend(more.headers);
    for (content_type, content) in more.content {
        match (known.content.get_mut(&content_type), content) {
            (Some(RefOr::T(known)), RefOr::T(content)) => known.examples.extend(content.examples),
            (_, content) => drop(known.content.insert(content_type, content)),
        }
    }
    known
}

/// Adds the headers that any answer may have, and those of answers that may still hold.
pub(super) fn add_to_every(responses: &mut Responses) {
    let may_still_hold = responses.responses.contains_key("304");
    for (status, response) in &mut responses.responses {
        let RefOr::T(response) = response else { continue };
        let tagged = may_still_hold && ["200", "304"].contains(&status.as_str());
        let names = ["Cache-Control", "Server-Timing", "X-Request-Id"].into_iter();
        for name in names.chain(["ETag", "Vary"].into_iter().filter(|_| tagged)) {
            response.headers.insert(name.to_owned(), RefOr::Ref(header_ref(name)));
        }
    }
}

/// Adds the headers that responses refer to.
pub(super) fn add_shared(components: &mut Components) {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let seconds = || ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
    for (name, schema, description) in [
        ("Age", seconds(), "Seconds since the answer was made"),
        (
            "Cache-Control",
            text(),
            "How long the answer may be kept: the longer, the less it can change. Errors: `no-store`",
        ),
        ("ETag", text(), "Names the answer; to be sent as `If-None-Match`"),
        (
            "Idempotency-Replayed",
            text().enum_values(Some(["true"])),
            "There if this batch had been stored before; this is the answer from then",
        ),
        ("Location", text(), "Where to look how it goes"),
        ("RateLimit", text(), "How many requests are left, where there is a limit"),
        ("Retry-After", seconds(), "Seconds after which trying again may help"),
        ("Server-Timing", text(), "Where the time went, milliseconds"),
        ("Vary", text(), "The request headers that the answer depends on"),
        (
            "X-Cache",
            text().enum_values(Some(["hit", "miss", "stale"])),
            "Whether the answer was made before; `stale`: a newer one is not to be had just now",
        ),
        ("Warning", text(), "There if the answer is out of date"),
        ("WWW-Authenticate", text(), "How to authenticate"),
        ("X-Request-Id", text(), "Names the request in the service's log"),
    ] {
        let header = HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build();
        components.headers.insert(name.to_owned(), header.into());
    }
}

fn header_ref(name: &str) -> Ref {
    Ref::new(format!("#/components/headers/{name}"))
}

fn reference<T: ToSchema>() -> Ref {
    Ref::from_schema_name(T::name())
}

fn problem() -> Ref {
    Ref::from_schema_name("Problem")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_of_a_time_zone_off_the_hour_is_there() {
        assert!(super::off_the_hour().is_some_and(|error| error.told().code == "time-zone-off-the-hour"));
    }

    /// Every kind of error is described somewhere above, but for the two that no operation gives.
    #[test]
    fn no_error_is_left_out() {
        let (errors, here) = (include_str!("../error.rs"), include_str!("responses.rs"));
        let (_, variants) = errors.split_once("enum ApiError {").expect("the errors");
        let (variants, _) = variants.split_once("\n}").expect("their end");
        let names = variants.lines().map(|line| line.trim().split([' ', '(', ',', '{']).next().unwrap_or_default());
        let names: Vec<&str> = names.filter(|name| name.starts_with(char::is_uppercase)).collect();
        assert!(names.len() > 20, "{names:?}");
        let described = here.split("#[cfg(test)]").next().unwrap_or_default();
        for name in names {
            // By its constructor; and 405 is for methods that are no operation, as the head of the document says.
            let known = described.contains(&format!("ApiError::{name}"))
                || ["InvalidParameter", "MethodNotAllowed"].contains(&name);
            assert!(known, "ApiError::{name} is given by no operation of the document");
        }
    }
}
