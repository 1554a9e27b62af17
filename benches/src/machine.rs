//! What it is measured on.

use std::fmt;
use std::fs;
use std::process::Command;

use anyhow::Result;

use crate::programs::{run, version};

/// The machine and its programs, as far as they bear on figures.
pub(crate) struct Machine {
    lines: Vec<(&'static str, String)>,
    /// Processes that wanted to run in the minute before.
    load: f64,
}

impl Machine {
    /// Looks.
    ///
    /// # Errors
    /// The usual places of Linux are not there.
    pub(crate) fn look() -> Result<Self> {
        let cpu = fs::read_to_string("/proc/cpuinfo")?;
        let model = value(&cpu, "model name").unwrap_or_else(|| "unknown".to_owned());
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let memory = value(&fs::read_to_string("/proc/meminfo")?, "MemTotal").unwrap_or_default();
        let memory_kb: f64 = memory.split(' ').next().and_then(|kb| kb.parse().ok()).unwrap_or(0.0);
        let load = fs::read_to_string("/proc/loadavg")?;
        let commit = run(Command::new("git").args(["describe", "--always", "--dirty"])).unwrap_or_default();
        let lines = vec![
            ("date", chrono::Utc::now().format("%Y-%m-%d %H:%M UTC").to_string()),
            ("commit", commit.trim().to_owned()),
            ("machine", format!("{cores} cores, {model}, {:.0} GiB", memory_kb / 1_048_576.0)),
            ("Linux", fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned()),
            ("Postgres", version("psql", "--version")),
            ("Redis", version("redis-server", "--version")),
            ("wrk", version("wrk", "-v")),
        ];
        Ok(Self { lines, load: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0) })
    }

    /// What makes figures doubtful from the start.
    pub(crate) fn warning(&self) -> Option<String> {
        (self.load > 0.7).then(|| format!("something else ran in the minute before (load average {:.2})", self.load))
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, value) in &self.lines {
            writeln!(f, "- {what}: {value}")?;
        }
        Ok(())
    }
}

/// The value of the first line `name : value`.
fn value(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
