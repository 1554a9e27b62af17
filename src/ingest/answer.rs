//! What a client is told about its records.

use std::borrow::Cow;

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::InvalidField;

/// How many errors an answer lists: enough to see what is wrong, few enough to read.
const LISTED_ERRORS: usize = 100;

/// One record that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RecordError {
    /// Position of the record in the body, from 0.
    pub index: u64,
    /// The field that is wrong; null where the record as a whole is.
    #[schema(required, examples("status"))]
    pub field: Option<&'static str>,
    /// A stable word for the kind of mistake.
    #[schema(examples("out-of-range"))]
    pub code: &'static str,
    /// What would be right, for people.
    #[schema(examples("must be from 100 to 599"))]
    pub reason: Cow<'static, str>,
}

/// Keeps count of what is rejected, and the first errors.
#[derive(Debug, Default)]
pub(super) struct Rejects {
    pub(super) count: u64,
    pub(super) first: Vec<RecordError>,
}

impl Rejects {
    pub(super) fn add(&mut self, index: u64, error: InvalidField) {
        self.count += 1;
        if self.first.len() < LISTED_ERRORS {
            self.first.push(RecordError { index, field: error.field, code: error.code, reason: error.reason });
        }
    }
}

/// What became of a body of records.
#[derive(Debug, Serialize, ToSchema)]
pub struct IngestAnswer<'a> {
    /// Records that are stored.
    #[schema(examples(2))]
    accepted: u64,
    /// Records that are not; the others are.
    #[schema(examples(1))]
    rejected: u64,
    /// Of those accepted, how many count under the route or service `{other}`, since there are too many endpoints; left out
    /// where there is none.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    overflowed: u64,
    /// Why records were rejected, for the first hundred.
    errors: &'a [RecordError],
}

/// The answer to a body of records, ready to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The JSON text.
    pub body: String,
    /// Whether every record of a body that had some was rejected.
    pub all_rejected: bool,
    /// Whether it is the answer to an earlier delivery of the same batch.
    pub replayed: bool,
}

impl Answer {
    pub(super) fn new(accepted: u64, rejected: u64, overflowed: u64, errors: &[RecordError]) -> Self {
        // Fails only for maps with odd keys and for types that refuse themselves; there are none here.
        let body = serde_json::to_string(&IngestAnswer { accepted, rejected, overflowed, errors }).unwrap_or_default();
        Self { body, all_rejected: accepted == 0 && rejected > 0, replayed: false }
    }

    /// The answer given before. Only batches with accepted records are kept, so it was a good one.
    pub(super) fn replayed(body: String) -> Self {
        Self { body, all_rejected: false, replayed: true }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
