//! Records on their way into the database, endpoints told apart once.

use std::hash::{Hash, Hasher};

use chrono::{DateTime, Utc};
use hashbrown::{Equivalent, HashMap};

use super::endpoint::Endpoint;
use super::record::{AcceptedTimes, InvalidField, RecordFields, Target};

/// A valid record; its endpoint by position in [`Batch::endpoints`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRecord {
    /// When the request finished.
    pub timestamp: DateTime<Utc>,
    /// Index into [`Batch::endpoints`].
    pub endpoint: u32,
    /// Status, 100 to 599.
    pub status: u16,
    /// Response time, microseconds.
    pub response_time_us: Option<u64>,
    /// The trace it belongs to.
    pub trace_id: Option<Box<str>>,
}

/// The valid records of one request body or one piece of a file.
///
/// Thousands of records name some tens of endpoints, so each endpoint is parsed and kept once a batch.
#[derive(Debug, Default)]
pub struct Batch {
    endpoints: Vec<Endpoint>,
    records: Vec<BatchRecord>,
    /// Positions in `endpoints` by how the endpoint was written and by what it is.
    written: HashMap<Spelling, u32>,
    known: HashMap<Endpoint, u32>,
}

/// How an endpoint was written, kept.
#[derive(Debug)]
struct Spelling {
    service: Option<Box<str>>,
    method: Box<str>,
    is_route: bool,
    target: Box<str>,
}

/// How an endpoint is written in a record. Looked up as it is: to make a [`Spelling`] of every record's would take as long
/// as to read the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Written<'a> {
    service: Option<&'a str>,
    method: &'a str,
    target: Target<'a>,
}

impl Spelling {
    fn of(written: Written<'_>) -> Self {
        let (is_route, target) = match written.target {
            Target::Route(template) => (true, template),
            Target::Path(path) => (false, path),
        };
        Self { service: written.service.map(Box::from), method: written.method.into(), is_route, target: target.into() }
    }

    fn written(&self) -> Written<'_> {
        Written {
            service: self.service.as_deref(),
            method: &self.method,
            target: if self.is_route { Target::Route(&self.target) } else { Target::Path(&self.target) },
        }
    }
}

impl PartialEq for Spelling {
    fn eq(&self, other: &Self) -> bool {
        self.written() == other.written()
    }
}

impl Eq for Spelling {}

impl Hash for Spelling {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.written().hash(state);
    }
}

impl Equivalent<Spelling> for Written<'_> {
    fn equivalent(&self, spelling: &Spelling) -> bool {
        *self == spelling.written()
    }
}

impl Batch {
    /// Reads one record and takes it in.
    ///
    /// # Errors
    /// [`InvalidField`], and the batch is as it was.
    pub fn push(&mut self, fields: &RecordFields<'_>, accepted: AcceptedTimes) -> Result<(), InvalidField> {
        let timestamp = fields.timestamp.read(accepted)?;
        let status = fields.status()?;
        let response_time_us = fields.response_time_us()?;
        let trace_id = fields.trace_id()?;
        let endpoint = self.endpoint(fields)?;
        self.records.push(BatchRecord { timestamp, endpoint, status, response_time_us, trace_id });
        Ok(())
    }

    fn endpoint(&mut self, fields: &RecordFields<'_>) -> Result<u32, InvalidField> {
        let written = Written { service: fields.service, method: fields.method, target: fields.target };
        if let Some(&index) = self.written.get(&written) {
            return Ok(index);
        }
        let endpoint = fields.endpoint()?;
        let index = match self.known.get(&endpoint) {
            Some(&index) => index,
            None => {
                let index = u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX);
                self.known.insert(endpoint.clone(), index);
                self.endpoints.push(endpoint);
                index
            }
        };
        self.written.insert(Spelling::of(written), index);
        Ok(index)
    }

    /// The endpoints, each once, in order of appearance.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The records, in the order in which they came.
    #[must_use]
    pub fn records(&self) -> &[BatchRecord] {
        &self.records
    }

    /// Takes the batch apart: endpoints, records.
    #[must_use]
    pub fn into_parts(self) -> (Vec<Endpoint>, Vec<BatchRecord>) {
        (self.endpoints, self.records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::Timestamp;

    #[test]
    fn paths_of_one_route_are_one_endpoint() {
        let now: DateTime<Utc> = "2026-11-21T10:00:00Z".parse().unwrap();
        let accepted = AcceptedTimes::at(now, None);
        let mut batch = Batch::default();
        let record = |service, target| RecordFields {
            timestamp: Timestamp::Instant(now),
            service,
            method: "GET",
            target,
            status: 200,
            response_time_ms: None,
            trace_id: None,
        };
        for (service, target) in [
            (None, Target::Path("/items/7")),
            (None, Target::Path("/items/8?x=1")),
            (None, Target::Route("/items/{id}")),
            (Some("unknown_service"), Target::Route("/items/{id}")),
            (Some("shop"), Target::Route("/items/{id}")),
        ] {
            batch.push(&record(service, target), accepted).unwrap();
        }
        let positions: Vec<u32> = batch.records().iter().map(|record| record.endpoint).collect();
        assert_eq!(positions, [0, 0, 0, 0, 1]);
        assert!(batch.push(&record(Some("a\0GET"), Target::Path("/")), accepted).is_err());
        assert_eq!((batch.records().len(), batch.endpoints().len()), (5, 2));
    }
}
