//! Query strings: every parameter known, given once, and read into a type.

use std::fmt::Display;
use std::str::FromStr;

use actix_web::HttpRequest;

use super::error::ApiError;
use crate::domain::{EndpointId, Method, Service, UnknownZone, WindowRequest, Zone};
use crate::stats::Format;
use crate::store::EndpointFilter;

/// The longest part of a route that is searched for, bytes: as long as a route can be.
pub(super) const ROUTE_PART_MAX_BYTES: usize = 512;

/// The forms of a table; the first is the usual one.
pub(super) const FORMATS: [(&str, Format); 2] = [("json", Format::Json), ("csv", Format::Csv)];

/// More than any route knows.
const MAX_PARAMS: usize = 20;

/// The parameter `limit` of a question.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// The most; the least is 1.
    pub(super) most: u32,
    /// Without it.
    pub(super) default: u32,
}

/// The parameters of a request that have not been taken yet.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// The parameters of `request`.
    pub(super) fn of(request: &HttpRequest) -> Result<Self, ApiError> {
        let mut params: Vec<(String, String)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(request.query_string().as_bytes()) {
            if value.chars().any(|character| character.is_control() || character == char::REPLACEMENT_CHARACTER) {
                return Err(ApiError::parameter(
                    &name,
                    "must not contain control characters or bytes that are not UTF-8",
                ));
            }
            if params.len() == MAX_PARAMS {
                return Err(ApiError::parameter(&name, "is one parameter too many"));
            }
            if params.iter().any(|(known, _)| *known == name) {
                return Err(ApiError::parameter(&name, "must be given once"));
            }
            params.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(params))
    }

    /// Takes a parameter out.
    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Takes a parameter out and parses it; an error says what it `must be`.
    fn parsed<T: FromStr>(&mut self, name: &str, must_be: impl Display) -> Result<Option<T>, ApiError> {
        self.take(name)
            .map(|value| value.parse().map_err(|_| ApiError::parameter(name, format!("must be {must_be}"))))
            .transpose()
    }

    /// One of a fixed list.
    pub(super) fn one_of<T: Copy>(&mut self, name: &str, choices: &[(&str, T)]) -> Result<Option<T>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match choices.iter().find(|(choice, _)| *choice == value) {
            Some((_, found)) => Ok(Some(*found)),
            None => {
                let names: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
                Err(ApiError::parameter(name, format!("must be one of {}", names.join(", "))))
            }
        }
    }

    /// A whole number in a range.
    pub(super) fn number<T: FromStr + PartialOrd + Display>(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<T>,
    ) -> Result<Option<T>, ApiError> {
        let must_be = format!("a whole number from {} to {}", range.start(), range.end());
        match self.parsed::<T>(name, &must_be)? {
            Some(number) if !range.contains(&number) => Err(ApiError::parameter(name, format!("must be {must_be}"))),
            number => Ok(number),
        }
    }

    /// `limit`, from 1 on.
    pub(super) fn limit(&mut self, limit: Limit) -> Result<u32, ApiError> {
        Ok(self.number("limit", 1..=limit.most)?.unwrap_or(limit.default))
    }

    /// `tz`; without it, UTC.
    pub(super) fn zone(&mut self) -> Result<Zone, ApiError> {
        let Some(name) = self.take("tz") else { return Ok(Zone::UTC) };
        name.parse().map_err(|error: UnknownZone| ApiError::parameter("tz", error.to_string()))
    }

    /// `window`, or `from` and `to`, whose days are those of `zone`.
    pub(super) fn window(&mut self, default: &str, zone: Zone) -> Result<WindowRequest, ApiError> {
        let mut instant = |name: &str| {
            self.take(name)
                .map(|text| {
                    WindowRequest::instant(&text, zone).map_err(|error| ApiError::parameter(name, error.to_string()))
                })
                .transpose()
        };
        let (from, to) = (instant("from")?, instant("to")?);
        let window = self.take("window");
        match (window, from, to) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                Err(ApiError::parameter("window", "must not be given together with `from` or `to`"))
            }
            (None, None, Some(_)) => Err(ApiError::parameter("from", "must be given with `to`")),
            (None, Some(from), to) => Ok(WindowRequest::Between(from, to)),
            (window, None, None) => {
                let text = window.as_deref().unwrap_or(default);
                text.parse()
                    .map(WindowRequest::Last)
                    .map_err(|error: crate::domain::InvalidWindow| ApiError::parameter("window", error.to_string()))
            }
        }
    }

    /// `service`, `method`, `route`.
    pub(super) fn filter(&mut self) -> Result<EndpointFilter, ApiError> {
        let service = self.take("service").map(|name| Service::parse(&name)).transpose();
        let method = self.take("method").map(|name| Method::parse(&name)).transpose();
        let route = self.take("route").filter(|part| !part.is_empty());
        if route.as_ref().is_some_and(|part| part.len() > ROUTE_PART_MAX_BYTES) {
            return Err(ApiError::parameter("route", format!("must have at most {ROUTE_PART_MAX_BYTES} bytes")));
        }
        Ok(EndpointFilter {
            service: service.map_err(|error| ApiError::parameter("service", error.to_string()))?,
            method: method.map_err(|error| ApiError::parameter("method", error.to_string()))?,
            route,
            id: None,
        })
    }

    /// `format`.
    pub(super) fn format(&mut self) -> Result<Format, ApiError> {
        Ok(self.one_of("format", &FORMATS)?.unwrap_or(Format::Json))
    }

    /// Nothing may be left over: a parameter that is misspelt is told, not ignored.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        match self.0.first() {
            Some((name, _)) => Err(ApiError::parameter(name, "is not known here")),
            None => Ok(()),
        }
    }
}

/// The number of an endpoint in a path.
pub(super) fn endpoint_id(request: &HttpRequest) -> Result<EndpointId, ApiError> {
    let text = request.match_info().get("id").unwrap_or_default();
    match text.parse::<i32>() {
        Ok(id) if id > 0 => Ok(EndpointId(id)),
        _ => Err(ApiError::parameter("id", "must be the number of an endpoint")),
    }
}
