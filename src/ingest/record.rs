//! A record as the API's description shows it.
//!
//! Nothing is read through this: a record is read field by field (`scalar`), so that each wrong one is told by name. What the
//! two say is held together by a test below and by `tests/it/openapi.rs`, which sends what is described.

use utoipa::ToSchema;
use utoipa::openapi::{KnownFormat, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, Type};

/// One finished HTTP request. Fields that are not known are passed over.
///
/// `route` or `path` must be there; where both are, `route` counts.
#[derive(Debug, ToSchema)]
#[schema(examples(json!({
    "timestamp": "2026-11-21T10:00:00.123Z", "service": "shop", "method": "GET", "route": "/items/{id}", "status": 200,
    "response_time_ms": 12.7, "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"
})))]
#[expect(dead_code, reason = "a description, never made")]
pub struct Record {
    #[schema(schema_with = timestamp)]
    timestamp: String,
    /// Who answered the request; left out, `unknown_service`. In bytes of UTF-8.
    #[schema(min_length = 1, max_length = 128, examples("shop"))]
    service: Option<String>,
    /// The HTTP method. Ones that are not registered count as `_OTHER`.
    #[schema(min_length = 1, max_length = 32, examples("GET"))]
    method: String,
    /// The template of the path, from a framework that knows it. A long one is cut at 512 bytes.
    #[schema(min_length = 1, examples("/items/{id}"))]
    route: Option<String>,
    /// The path, where the template is not known: numbers, UUIDs, hashes, dates and the like become placeholders, and the
    /// query is dropped.
    #[schema(examples("/items/17?draft=1"))]
    path: Option<String>,
    /// The HTTP status of the answer. 500 and above are errors, 400 to 499 client errors.
    #[schema(minimum = 100, maximum = 599, examples(200))]
    status: u16,
    /// How long the answer took, milliseconds, kept to the microsecond. Without it the request counts, but not for times.
    #[schema(minimum = 0, maximum = 86_400_000, examples(12.7))]
    response_time_ms: Option<f64>,
    /// The trace it belongs to, to find it again. In bytes of UTF-8.
    #[schema(max_length = 128, examples("4bf92f3577b34da6a3ce929d0e0e4736"))]
    trace_id: Option<String>,
}

fn timestamp() -> Schema {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .examples(["2026-11-21T10:00:00.123Z"]);
    let number = ObjectBuilder::new().schema_type(Type::Number).examples([1_795_255_200_123_i64]);
    OneOfBuilder::new()
        .item(text)
        .item(number)
        .description(Some(
            "When the request finished: RFC 3339 with a time zone, or milliseconds since 1970 UTC. At most 5 minutes ahead of \
             the service's clock, and (unless it is set up otherwise) at most 400 days old.",
        ))
        .into()
}

#[cfg(test)]
mod tests {
    use super::super::scalar::FIELDS;
    use super::*;
    use utoipa::PartialSchema as _;

    #[test]
    fn every_field_that_is_read_is_described() {
        let schema = serde_json::to_value(Record::schema()).unwrap();
        let mut described: Vec<&str> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let mut read = FIELDS.to_vec();
        described.sort_unstable();
        read.sort_unstable();
        assert_eq!(described, read);
    }
}
