//! The binary: see `endpoint_stats` for everything.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    endpoint_stats::cli::run().await
}
