//! endpoint-stats

pub mod access_log;
pub mod cache;
pub mod domain;
pub mod http;
pub mod ingest;
pub mod jobs;
pub mod stats;
pub mod store;
