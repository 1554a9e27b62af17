//! endpoint-stats

pub mod access_log;
pub mod app;
pub mod cache;
pub mod cli;
pub mod config;
pub mod domain;
pub mod embedded;
pub mod http;
pub mod ingest;
pub mod jobs;
pub mod stats;
pub mod store;
