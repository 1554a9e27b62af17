//! The words of the service as types: what a request record, an endpoint, a window, a histogram *is*.
//!
//! Owns: parsing and arithmetic. Uses: nothing of this crate, no database, no network, no files. A value that exists has
//! been parsed, so the modules to the left need not look again.

mod api_key;
mod batch;
mod clock;
mod counters;
mod endpoint;
mod fingerprint;
mod freshness;
mod gcra;
mod histogram;
mod numeric;
mod order;
mod record;
mod route;
mod window;
mod zone;

pub use api_key::{ApiKey, InvalidScope, KeyHash, KeyPrefix, Scope};
pub use batch::{Batch, BatchRecord};
pub use clock::{Clock, HandSetClock};
pub use counters::Counters;
pub use endpoint::{Endpoint, EndpointId, InvalidEndpoint, Method, Service};
pub use fingerprint::Fingerprint;
pub use freshness::Freshness;
pub use gcra::{Decision, MAX_PER_SECOND, MOST_AHEAD_US, Quota, Tat};
pub use histogram::{LatencyHistogram, MAX_RESPONSE_TIME_US, PERCENTILE_ERROR, Percentile};
pub use numeric::{InvalidNumeric, decode_unsigned, encode_unsigned};
pub use order::Order;
pub use record::{AcceptedTimes, InvalidField, RecordFields, Target, Timestamp};
pub use route::{OTHER, Route};
pub use window::{InvalidWindow, Span, Step, Window, WindowRequest, elapsed_seconds};
pub use zone::{Day, Days, OffTheHour, UnknownZone, Zone};
