//! Running other programs and taking their word.

use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Runs a program to its end and returns what it printed.
///
/// # Errors
/// It is not there, or did not end well: what it said on standard error.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("running {name}; is it installed?"))?;
    let Output { status, stdout, stderr } = output;
    ensure!(status.success(), "{name}: {status}: {}", String::from_utf8_lossy(&stderr).trim());
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// The first line of what a program says of its version; empty if it is not there.
pub(crate) fn version(program: &str, argument: &str) -> String {
    // wrk tells its version on standard output, and ends with 1.
    let output = Command::new(program).arg(argument).stdin(Stdio::null()).output();
    output
        .map(|output| String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
        .unwrap_or_default()
}
