//! endpoint-stats

pub mod domain;
