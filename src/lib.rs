//! endpoint-stats

pub mod access_log;
pub mod domain;
pub mod ingest;
pub mod stats;
pub mod store;
