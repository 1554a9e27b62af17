//! Rows in the binary format of `COPY` (PostgreSQL documentation, "COPY", section "Binary Format").

use chrono::{DateTime, Utc};

/// Microseconds from 1970-01-01, where chrono counts from, to 2000-01-01, where Postgres does.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// In place of a length: there is no value.
const NULL: i32 = -1;

/// The signature, no flags, no header extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Bytes of a row of `requests` up to its trace id.
const ROW_BYTES: usize = 44;

/// The body of one `COPY requests … (FORMAT BINARY)`, piece by piece.
pub(super) struct CopyBody(Vec<u8>);

impl CopyBody {
    /// The beginning of a body, with room for pieces of `bytes`.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let mut body = Vec::with_capacity(bytes);
        body.extend_from_slice(HEADER);
        Self(body)
    }

    /// A row of `requests`, in the order of columns of `copy_requests.sql`.
    pub(super) fn request(
        &mut self,
        timestamp: DateTime<Utc>,
        response_time_us: Option<i64>,
        endpoint: i32,
        status: i16,
        trace_id: Option<&str>,
    ) {
        // Made beside the body and appended as one: to ask for every field whether there is room takes longer.
        let mut row = [0; ROW_BYTES];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            row[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&5_i16.to_be_bytes());
        put(&8_i32.to_be_bytes());
        put(&(timestamp.timestamp_micros() - POSTGRES_EPOCH_US).to_be_bytes());
        match response_time_us {
            Some(us) => {
                put(&8_i32.to_be_bytes());
                put(&us.to_be_bytes());
            }
            None => put(&NULL.to_be_bytes()),
        }
        put(&4_i32.to_be_bytes());
        put(&endpoint.to_be_bytes());
        put(&2_i32.to_be_bytes());
        put(&status.to_be_bytes());
        // Texts have at most some hundred bytes.
        put(&trace_id.map_or(NULL, |text| text.len() as i32).to_be_bytes());
        self.0.extend_from_slice(&row[..at]);
        self.0.extend_from_slice(trace_id.unwrap_or_default().as_bytes());
    }

    /// What has gathered.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Begins the next piece.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Ends the body.
    pub(super) fn finish(&mut self) {
        self.0.extend_from_slice(&(-1_i16).to_be_bytes());
    }
}
