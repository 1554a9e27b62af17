//! endpoint-stats

pub mod domain;
pub mod store;
