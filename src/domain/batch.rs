//! Records on their way into the database, endpoints told apart once.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

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
    written: HashMap<String, u32>,
    known: HashMap<Endpoint, u32>,
    key: String,
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
        // NUL ends each part: a part that holds one itself is refused below, before its key is kept.
        let (kind, target) = match fields.target {
            Target::Route(template) => ("r", template),
            Target::Path(path) => ("p", path),
        };
        self.key.clear();
        for part in [fields.service.unwrap_or("\0"), fields.method, kind, target] {
            self.key.push_str(part);
            self.key.push('\0');
        }
        if let Some(&index) = self.written.get(self.key.as_str()) {
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
        self.written.insert(self.key.clone(), index);
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
