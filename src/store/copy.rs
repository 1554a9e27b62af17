//! Rows in the binary format of `COPY` (PostgreSQL documentation, "COPY", section "Binary Format").

use bytes::BufMut as _;
use chrono::{DateTime, Utc};

use crate::domain::{Counters, encode_unsigned};

/// Microseconds from 1970-01-01, where chrono counts from, to 2000-01-01, where Postgres does.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// The signature, no flags, no header extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// The body of one `COPY … (FORMAT BINARY)`.
pub(super) struct CopyBody(Vec<u8>);

impl CopyBody {
    /// An empty body with room for `bytes`.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let mut body = Vec::with_capacity(bytes + HEADER.len() + 2);
        body.extend_from_slice(HEADER);
        Self(body)
    }

    /// Begins a row of so many columns.
    pub(super) fn row(&mut self, columns: i16) -> &mut Self {
        self.0.put_i16(columns);
        self
    }

    pub(super) fn timestamp(&mut self, instant: DateTime<Utc>) -> &mut Self {
        self.bigint(instant.timestamp_micros() - POSTGRES_EPOCH_US)
    }

    pub(super) fn bigint(&mut self, value: i64) -> &mut Self {
        self.0.put_i32(8);
        self.0.put_i64(value);
        self
    }

    pub(super) fn integer(&mut self, value: i32) -> &mut Self {
        self.0.put_i32(4);
        self.0.put_i32(value);
        self
    }

    pub(super) fn smallint(&mut self, value: i16) -> &mut Self {
        self.0.put_i32(2);
        self.0.put_i16(value);
        self
    }

    pub(super) fn null(&mut self) -> &mut Self {
        self.0.put_i32(-1);
        self
    }

    /// A count or a number of microseconds; `None` is NULL.
    pub(super) fn count(&mut self, value: impl Into<Option<u64>>) -> &mut Self {
        match value.into() {
            // 2^63 requests or microseconds of one request do not happen; held back rather than wrapped.
            Some(value) => self.bigint(i64::try_from(value).unwrap_or(i64::MAX)),
            None => self.null(),
        }
    }

    pub(super) fn text(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(text) => self.sized(|body| body.extend_from_slice(text.as_bytes())),
            None => self.null(),
        }
    }

    /// The nine columns of counters, in the order in which every rollup table has them.
    pub(super) fn counters(&mut self, counters: &Counters) -> &mut Self {
        self.count(counters.request_count)
            .count(counters.redirect_count)
            .count(counters.client_error_count)
            .count(counters.error_count)
            .count(counters.timed_count)
            .sized(|body| encode_unsigned(counters.total_response_time_us, body))
            .count(counters.min_response_time_us)
            .count(counters.max_response_time_us)
            .sized(|body| counters.latency_histogram.encode(body))
    }

    /// The finished body, trailer and all.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.put_i16(-1);
        self.0
    }

    /// A value whose length is known once it is written.
    fn sized(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        let at = self.0.len();
        self.0.put_i32(0);
        write(&mut self.0);
        // No value is near 2 GiB: texts have at most 128 bytes, histograms some 1,700.
        let length = (self.0.len() - at - 4) as u32;
        self.0[at..at + 4].copy_from_slice(&length.to_be_bytes());
        self
    }
}
