//! What it is measured on.

use std::fmt;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::programs::{run, version};

/// How long is looked whether something else runs.
const LOOK: Duration = Duration::from_secs(1);

/// The machine and its programs, as far as they bear on figures.
pub(crate) struct Machine {
    lines: Vec<(&'static str, String)>,
    /// What part of the processors others were using.
    busy: f64,
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
        let before = processor_time()?;
        std::thread::sleep(LOOK);
        let after = processor_time()?;
        let [busy, all] = [after[0] - before[0], after[1] - before[1]];
        Ok(Self { lines, busy: if all > 0.0 { busy / all } else { 0.0 } })
    }

    /// What makes figures doubtful from the start.
    pub(crate) fn warning(&self) -> Option<String> {
        let percent = self.busy * 100.0;
        (self.busy > 0.1).then(|| format!("something else used {percent:.0} % of the processors when the run began"))
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

/// Time that the processors have spent at work, and in all, in the kernel's ticks (proc(5), `/proc/stat`).
fn processor_time() -> Result<[f64; 2]> {
    let stat = fs::read_to_string("/proc/stat")?;
    let ticks = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<f64> = ticks.filter_map(|ticks| ticks.parse().ok()).collect();
    let all: f64 = ticks.iter().sum();
    // The fourth is idle, the fifth idle but for the disk.
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    Ok([all - idle, all])
}

/// The value of the first line `name : value`.
fn value(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
