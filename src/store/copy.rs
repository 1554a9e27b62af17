//! Rows in the binary format of `COPY` (PostgreSQL documentation, "COPY", section "Binary Format").

use bytes::BufMut as _;
use chrono::{DateTime, Utc};

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

    fn bigint(&mut self, value: i64) -> &mut Self {
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

    fn null(&mut self) -> &mut Self {
        self.0.put_i32(-1);
        self
    }

    pub(super) fn optional_bigint(&mut self, value: Option<i64>) -> &mut Self {
        match value {
            Some(value) => self.bigint(value),
            None => self.null(),
        }
    }

    pub(super) fn text(&mut self, value: Option<&str>) -> &mut Self {
        let Some(text) = value else { return self.null() };
        // Texts have at most some hundred bytes.
        self.0.put_i32(text.len() as i32);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// The finished body, trailer and all.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.put_i16(-1);
        self.0
    }
}
