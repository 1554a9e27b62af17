//! Who answers requests: service + method + route.

use std::fmt;

use super::route::{OTHER, Route};

/// The longest service name taken, bytes. With the longest method and route an index entry stays far below the 2,704
/// bytes that a Postgres btree can hold.
const SERVICE_MAX_BYTES: usize = 128;

/// The longest method looked at, bytes; the longest registered one, `UPDATEREDIRECTREF`, has 17.
const METHOD_MAX_BYTES: usize = 32;

/// What OpenTelemetry calls a service that did not say its name.
const UNKNOWN_SERVICE: &str = "unknown_service";

/// What OpenTelemetry calls a method outside [`KNOWN_METHODS`] (`http.request.method`).
const OTHER_METHOD: &str = "_OTHER";

/// RFC 9110's methods and PATCH (RFC 5789), as OpenTelemetry's `http.request.method` lists them, and QUERY.
const KNOWN_METHODS: [&str; 10] =
    ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"];

/// Why a text is no service or method. The text is a sentence fragment for the person who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// A NUL character, which a Postgres `text` cannot hold.
    #[error("must not contain a NUL character")]
    Nul,
    /// Empty.
    #[error("must not be empty")]
    Empty,
    /// Longer than the limit, in bytes.
    #[error("must have at most {0} bytes")]
    TooLong(usize),
    /// Not a token of RFC 9110.
    #[error("must be an HTTP method: letters, digits and !#$%&'*+-.^_`|~ only")]
    NotAToken,
}

/// The name of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Service(Box<str>);

impl Service {
    /// Takes a name of 1 to 128 bytes as it stands.
    ///
    /// # Errors
    /// [`InvalidEndpoint`] for an empty or longer one, or one with NUL.
    pub fn parse(name: &str) -> Result<Self, InvalidEndpoint> {
        if name.is_empty() {
            return Err(InvalidEndpoint::Empty);
        }
        if name.len() > SERVICE_MAX_BYTES {
            return Err(InvalidEndpoint::TooLong(SERVICE_MAX_BYTES));
        }
        if name.contains('\0') {
            return Err(InvalidEndpoint::Nul);
        }
        Ok(Self(name.into()))
    }

    /// The service of a record that names none.
    #[must_use]
    pub fn unknown() -> Self {
        Self(UNKNOWN_SERVICE.into())
    }

    /// The service that takes the records of services beyond the cap.
    #[must_use]
    pub fn other() -> Self {
        Self(OTHER.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An HTTP method, one of a fixed list, so that no client can make up endpoints without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Method(&'static str);

impl Method {
    /// Reads a method in any case; one that is a token but not known becomes OpenTelemetry's `_OTHER`.
    ///
    /// # Errors
    /// [`InvalidEndpoint`] for a text that cannot be a method.
    pub fn parse(name: &str) -> Result<Self, InvalidEndpoint> {
        if let Some(known) = KNOWN_METHODS.iter().find(|known| known.eq_ignore_ascii_case(name)) {
            return Ok(Self(known));
        }
        if name.is_empty() {
            return Err(InvalidEndpoint::Empty);
        }
        if name.contains('\0') {
            return Err(InvalidEndpoint::Nul);
        }
        if name.len() > METHOD_MAX_BYTES {
            return Err(InvalidEndpoint::TooLong(METHOD_MAX_BYTES));
        }
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)) {
            return Err(InvalidEndpoint::NotAToken);
        }
        Ok(Self(OTHER_METHOD))
    }

    /// The name, in capitals.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

/// What is ranked: a service's route, by method.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The service that answers.
    pub service: Service,
    /// The method asked for.
    pub method: Method,
    /// The template of the path.
    pub route: Route,
}

impl Endpoint {
    /// Where this endpoint's records go once its service has as many endpoints as it may.
    #[must_use]
    pub fn overflow(&self) -> Self {
        Self { service: self.service.clone(), method: self.method, route: Route::other() }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.service.as_str(), self.method.as_str(), self.route.as_str())
    }
}

/// The number of an endpoint in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub i32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_known_in_any_case() {
        assert_eq!(Method::parse("get").map(Method::as_str), Ok("GET"));
        assert_eq!(Method::parse("Patch").map(Method::as_str), Ok("PATCH"));
    }

    #[test]
    fn an_unknown_method_is_counted_as_other() {
        assert_eq!(Method::parse("BREW").map(Method::as_str), Ok("_OTHER"));
    }

    #[test]
    fn what_cannot_be_a_method_is_refused() {
        for (name, error) in [
            ("", InvalidEndpoint::Empty),
            ("GE T", InvalidEndpoint::NotAToken),
            ("GET\0", InvalidEndpoint::Nul),
            ("GET\n", InvalidEndpoint::NotAToken),
            (&"A".repeat(1_024), InvalidEndpoint::TooLong(32)),
        ] {
            assert_eq!(Method::parse(name), Err(error), "{name:?}");
        }
    }

    #[test]
    fn a_service_is_taken_as_it_stands() {
        let odd = "shop\t\\N '; DROP TABLE requests; --";
        assert_eq!(Service::parse(odd).map(|service| service.as_str().to_owned()), Ok(odd.to_owned()));
        assert_eq!(Service::parse("a\0b"), Err(InvalidEndpoint::Nul));
        assert_eq!(Service::parse(&"é".repeat(65)), Err(InvalidEndpoint::TooLong(128)));
    }
}
