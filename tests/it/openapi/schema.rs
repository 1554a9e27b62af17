//! Whether a value is what a schema says.
//!
//! Not a validator of JSON Schema: it knows the words that the description uses, fails on others, and is stricter than one
//! in what matters here: a field that the schema does not name is a fault, through `allOf` too.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Words that say nothing of a value.
const PROSE: [&str; 6] = ["description", "example", "examples", "title", "default", "contentMediaType"];

/// What is wrong with `value`; empty if it is as `schema` says.
pub fn faults(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(document, schema, value, "$", &mut found);
    found
}

/// What a `$ref` leads to; what is none, itself.
pub fn resolved<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    match schema["$ref"].as_str() {
        Some(path) => {
            let pointer = path.strip_prefix('#').unwrap_or_else(|| panic!("{path} leads out of the document"));
            document.pointer(pointer).unwrap_or_else(|| panic!("{path} leads nowhere"))
        }
        None => schema,
    }
}

/// The fields of an object and which of them must be there, those of its parts included.
pub fn fields<'d>(document: &'d Value, schema: &'d Value) -> (BTreeMap<&'d str, &'d Value>, BTreeSet<&'d str>) {
    let schema = resolved(document, schema);
    let properties = schema["properties"].as_object().into_iter().flatten();
    let mut all: BTreeMap<_, _> = properties.map(|(name, schema)| (name.as_str(), schema)).collect();
    let mut required: BTreeSet<_> =
        schema["required"].as_array().into_iter().flatten().flat_map(Value::as_str).collect();
    for part in schema["allOf"].as_array().into_iter().flatten() {
        let (more, more_required) = fields(document, part);
        all.extend(more);
        required.extend(more_required);
    }
    (all, required)
}

fn check(document: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let schema = resolved(document, schema);
    let mut fault = |what: String| found.push(format!("{at}: {what}"));
    let number = || value.as_f64().unwrap_or_default();
    for (word, says) in schema.as_object().unwrap() {
        let holds = match word.as_str() {
            "type" => match says {
                Value::Array(types) => types.iter().any(|one| is(value, one)),
                one => is(value, one),
            },
            "enum" => says.as_array().unwrap().contains(value),
            "minimum" => value.is_null() || number() >= says.as_f64().unwrap(),
            "maximum" => value.is_null() || number() <= says.as_f64().unwrap(),
            "minLength" => value.as_str().is_none_or(|text| text.len() as u64 >= says.as_u64().unwrap()),
            "maxLength" => value.as_str().is_none_or(|text| text.len() as u64 <= says.as_u64().unwrap()),
            "format" => value.as_str().is_none_or(|text| match says.as_str().unwrap() {
                "date-time" => chrono::DateTime::parse_from_rfc3339(text).is_ok(),
                "date" => text.parse::<chrono::NaiveDate>().is_ok(),
                other => panic!("{at}: a text of the format {other}"),
            }),
            "oneOf" => {
                let fits = |one: &&Value| faults(document, one, value).is_empty();
                says.as_array().unwrap().iter().filter(fits).count() == 1
            }
            // Below, all fields together.
            "properties" | "required" | "items" => true,
            // All parts are objects here, and may be told only together.
            "allOf" => value.is_object(),
            word => {
                assert!(PROSE.contains(&word), "{at}: {word} is not known here");
                true
            }
        };
        if !holds {
            fault(format!("{value:.80} is not {word} {says}"));
        }
    }
    let (known, required) = fields(document, schema);
    if let (Value::Object(object), false) = (value, known.is_empty()) {
        for name in required.iter().filter(|name| !object.contains_key(**name)) {
            fault(format!("{name} is missing"));
        }
        for name in object.keys().filter(|name| !known.contains_key(name.as_str())) {
            fault(format!("{name} is not described"));
        }
        for (name, field) in object {
            if let Some(schema) = known.get(name.as_str()) {
                check(document, schema, field, &format!("{at}.{name}"), found);
            }
        }
    } else if let (Value::Array(items), Some(schema)) = (value, schema.get("items")) {
        items.iter().enumerate().for_each(|(n, item)| check(document, schema, item, &format!("{at}[{n}]"), found));
    }
}

fn is(value: &Value, name: &Value) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the type {other}"),
    }
}

#[test]
fn a_value_that_is_otherwise_than_described_is_told() {
    let document = serde_json::json!({ "components": { "schemas": { "Part": {
        "type": "object", "required": ["n"], "properties": { "n": { "type": ["integer", "null"], "minimum": 1 } }
    } } } });
    let schema = serde_json::json!({ "allOf": [
        { "$ref": "#/components/schemas/Part" },
        { "type": "object", "properties": { "of": { "type": "string", "enum": ["a"] }, "at": { "type": "string", "format": "date" } } }
    ] });
    // Held to every part.
    let told = |value: &str| faults(&document, &schema, &serde_json::from_str(value).unwrap());
    assert_eq!(told(r#"{"n":1,"of":"a","at":"2026-11-21"}"#), Vec::<String>::new());
    assert_eq!(told(r#"{"n":null}"#), Vec::<String>::new());
    for (value, at) in [
        (r#"{}"#, "n is missing"),
        (r#"{"n":0}"#, "$.n: 0 is not minimum 1"),
        (r#"{"n":1.5}"#, "$.n: 1.5 is not type"),
        (r#"{"n":1,"m":1}"#, "m is not described"),
        (r#"{"n":1,"of":"b"}"#, "$.of: \"b\" is not enum"),
        (r#"{"n":1,"at":"soon"}"#, "$.at: \"soon\" is not format"),
        ("null", "$: null is not allOf"),
    ] {
        let found = told(value);
        assert!(found.iter().any(|fault| fault.contains(at)), "{value}: {found:?}");
    }
}
