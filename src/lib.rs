//! endpoint-stats

pub mod access_log;
pub mod cache;
pub mod domain;
pub mod ingest;
pub mod jobs;
pub mod stats;
pub mod store;
