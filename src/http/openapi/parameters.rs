//! The parameters of each operation, with their bounds. The bounds are the constants that requests are refused by.

use serde_json::{Value, json};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{ObjectBuilder, Required, Type};

use super::super::params::{FORMATS, Limit, ROUTE_PART_MAX_BYTES};
use super::super::questions::{DAILY_ROWS, DAILY_WINDOW, RAW_ORDERS, RAW_REQUESTS, RAW_WINDOW, TOP_ROWS, USUAL_WINDOW};
use super::super::records::KEY_MAX_BYTES;
use crate::domain::{Order, Step, Zone};
use crate::jobs::Job;

/// Of `GET /api/v1/endpoints/top`.
pub(in crate::http) struct Top;

impl IntoParams for Top {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let by = one_of("by", "The column to rank by, the largest value first", &Order::ALL.map(Order::name));
        let min_requests = number("min_requests", "Only endpoints with at least so many requests", 0, u32::MAX, 20);
        let mut all = vec![by.usually("requests")];
        all.extend(window(USUAL_WINDOW, OF_ZONE));
        all.push(zone("which `from` and `to` may be told in"));
        all.push(limit("Rows at most", TOP_ROWS));
        all.extend(filter());
        all.push(min_requests.usually(0));
        all.push(one_of("compare", "Each row also tells the period of the same length before", &["previous"]));
        all.push(format());
        finished(all)
    }
}

/// Of `GET /api/v1/overview`.
pub(in crate::http) struct Overview;

impl IntoParams for Overview {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        finished(window(USUAL_WINDOW, OF_UTC).into_iter().chain(filter()).collect())
    }
}

/// Of `GET /api/v1/daily`.
pub(in crate::http) struct Daily;

impl IntoParams for Daily {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut all: Vec<Described> = window(DAILY_WINDOW, OF_ZONE).into_iter().chain(filter()).collect();
        all.push(zone("that are told, and which `from` and `to` may be told in"));
        all.push(number("endpoint_id", "Only the endpoint with this number", 1, i32::MAX as u32, 1));
        all.push(limit("Rows at most", DAILY_ROWS));
        all.push(format());
        finished(all)
    }
}

/// Of `GET /api/v1/endpoints/{id}`.
pub(in crate::http) struct Endpoint;

impl IntoParams for Endpoint {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        finished(std::iter::once(id()).chain(window(USUAL_WINDOW, OF_UTC)).collect())
    }
}

/// Of `GET /api/v1/endpoints/{id}/series`.
pub(in crate::http) struct Series;

impl IntoParams for Series {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let step = "The width of a step; left out, one that gives the window some hundred steps";
        let step = one_of("step", step, &Step::ALL.map(Step::name)).such_as("1h");
        let zone = zone("that the steps of `step=1d` are, and which `from` and `to` may be told in");
        finished(std::iter::once(id()).chain(window(USUAL_WINDOW, OF_ZONE)).chain([step, zone]).collect())
    }
}

/// Of `GET /api/v1/endpoints/{id}/requests`.
pub(in crate::http) struct Requests;

impl IntoParams for Requests {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let by = one_of("by", "Which requests come first; `failed`: only those answered 5xx", &RAW_ORDERS.map(first));
        let limit = limit("Requests at most", RAW_REQUESTS);
        let by = by.usually(RAW_ORDERS[0].0);
        finished(std::iter::once(id()).chain(window(RAW_WINDOW, OF_UTC)).chain([by, limit]).collect())
    }
}

/// Of `POST /api/v1/requests`.
pub(in crate::http) struct Ingest;

impl IntoParams for Ingest {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let key = "Names the batch: sent again under the same key, it counts once. Visible ASCII characters; a random UUID is \
                   a good one";
        let mut key = described(ParameterIn::Header, "Idempotency-Key", key, "6f1e0f6c-7f0e-4a6f-9a54-0c9f4d7a3b11");
        key.schema = key.schema.min_length(Some(1)).max_length(Some(KEY_MAX_BYTES)).pattern(Some("^[!-~]+$"));
        let encoding = "How the body is compressed";
        let mut encoding = described(ParameterIn::Header, "Content-Encoding", encoding, "identity");
        encoding.schema = encoding.schema.enum_values(Some(["gzip", "zstd", "identity"]));
        vec![key.finish(), encoding.finish()]
    }
}

/// Of `GET /api/v1/jobs/{name}` and `POST /api/v1/jobs/{name}/run`.
pub(in crate::http) struct OfJob;

impl IntoParams for OfJob {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut name = described(ParameterIn::Path, "name", "The name of a job", Job::Fold.name());
        name.schema = name.schema.enum_values(Some(Job::ALL.map(Job::name)));
        vec![name.finish()]
    }
}

/// A parameter whose schema is still open.
struct Described {
    parameter: ParameterBuilder,
    schema: ObjectBuilder,
}

impl Described {
    fn usually(mut self, value: impl Into<Value>) -> Self {
        self.schema = self.schema.default(Some(value.into()));
        self
    }

    fn such_as(mut self, value: impl Into<Value>) -> Self {
        self.schema = self.schema.examples([value.into()]);
        self
    }

    fn finish(self) -> Parameter {
        self.parameter.schema(Some(self.schema)).build()
    }
}

/// The parameters of a question, and the headers that every question understands.
fn finished(mut all: Vec<Described>) -> Vec<Parameter> {
    let known = "The `ETag` of an answer that is at hand: 304 if it still holds";
    all.push(described(ParameterIn::Header, "If-None-Match", known, "W/\"0123456789abcdef\""));
    let anew = "`no-cache`: an answer from the database, whatever the caches hold";
    all.push(described(ParameterIn::Header, "Cache-Control", anew, "no-cache"));
    all.into_iter().map(Described::finish).collect()
}

/// The example is one of the schema, not of the parameter: the page at `/docs` would fill it in, and ask with all of them.
fn described(place: ParameterIn, name: &str, description: &str, example: impl Into<Value>) -> Described {
    let required = if place == ParameterIn::Path { Required::True } else { Required::False };
    let parameter =
        ParameterBuilder::new().name(name).parameter_in(place).required(required).description(Some(description));
    Described { parameter, schema: ObjectBuilder::new().schema_type(Type::String) }.such_as(example)
}

fn query(name: &str, description: &str, example: impl Into<Value>) -> Described {
    described(ParameterIn::Query, name, description, example)
}

fn number(name: &str, description: &str, least: u32, most: u32, example: u32) -> Described {
    let mut number = query(name, description, example);
    number.schema = number.schema.schema_type(Type::Integer).minimum(Some(least)).maximum(Some(most));
    number
}

fn one_of(name: &str, description: &str, choices: &[&str]) -> Described {
    let mut choice = query(name, description, choices.first().copied());
    choice.schema = choice.schema.enum_values(Some(choices.to_vec()));
    choice
}

fn limit(description: &str, limit: Limit) -> Described {
    number("limit", description, 1, limit.most, limit.default).usually(limit.default)
}

/// Whose days `from` and `to` may be.
const OF_UTC: &str = "a UTC day";
const OF_ZONE: &str = "a day (its beginning in `tz`)";

/// `window`, or `from` and `to`.
fn window(usual: &str, day: &str) -> [Described; 3] {
    let mut last = query(
        "window",
        "The time up to now, from `1m` to `400d`: minutes, hours or days. Not together with `from` and `to`",
        usual,
    );
    last.schema = last.schema.pattern(Some("^[0-9]+[mhd]$")).default(Some(json!(usual)));
    let instant = format!("RFC 3339 with a time zone, {day}, or milliseconds since 1970 UTC");
    let from = query("from", &format!("The first instant: {instant}"), "2026-11-20");
    let to = query(
        "to",
        &format!(
            "The end, no longer in it: {instant}. Only with `from`, at most 400 days after it; left out, it is now"
        ),
        "2026-11-21T10:00:00Z",
    );
    [last, from, to]
}

/// `tz`.
fn zone(whose: &str) -> Described {
    let zone = format!(
        "The time zone of the days {whose}: a name of the IANA database. Its days in the window must begin on a full hour of UTC"
    );
    query("tz", &zone, "Europe/Berlin").usually(Zone::UTC.name())
}

/// `service`, `method`, `route`.
fn filter() -> [Described; 3] {
    let mut service = query("service", "Only this service, exactly; at most 128 bytes of UTF-8", "shop");
    service.schema = service.schema.min_length(Some(1)).max_length(Some(128));
    let mut method = query("method", "Only this HTTP method", "GET");
    method.schema = method.schema.min_length(Some(1)).max_length(Some(32));
    let mut route = query("route", "Only routes with this part, in any case; at most 512 bytes of UTF-8", "items");
    route.schema = route.schema.max_length(Some(ROUTE_PART_MAX_BYTES));
    [service, method, route]
}

fn format() -> Described {
    one_of("format", "The form of the answer", &FORMATS.map(first)).usually(FORMATS[0].0)
}

fn id() -> Described {
    let mut id = described(ParameterIn::Path, "id", "The `id` of an endpoint, as rows of answers tell it", 1);
    id.schema = id.schema.schema_type(Type::Integer).minimum(Some(1)).maximum(Some(i32::MAX));
    id
}

fn first<T>((name, _): (&'static str, T)) -> &'static str {
    name
}
