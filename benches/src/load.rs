//! wrk: so many connections that each send the next request when the last is answered.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::programs::run;

/// The script that wrk runs.
const SCRIPT: &str = include_str!("replay.lua");

/// What came of a load.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Outcome {
    requests: f64,
    seconds: f64,
    refused: u64,
    broken: u64,
    /// Half of the requests were answered within so many milliseconds.
    pub(crate) p50_ms: f64,
    /// All but one in a hundred were.
    pub(crate) p99_ms: f64,
}

impl Outcome {
    /// Answers a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.requests / self.seconds
    }
}

/// Requests in a file, ready to be sent.
pub(crate) struct Load {
    requests: PathBuf,
    script: PathBuf,
    address: String,
    connections: u16,
    every: Option<Duration>,
}

impl Load {
    /// Over `connections` to `address`, the requests of [`Load::write`].
    pub(crate) fn new(folder: &Path, name: &str, address: &str, connections: u16) -> Result<Self> {
        let script = folder.join("replay.lua");
        fs::write(&script, SCRIPT)?;
        let requests = folder.join(format!("{name}.requests"));
        Ok(Self { requests, script, address: address.to_owned(), connections, every: None })
    }

    /// The requests to send, in turns.
    pub(crate) fn write(self, requests: impl IntoIterator<Item = Vec<u8>>) -> Result<Self> {
        let mut file = std::io::BufWriter::new(fs::File::create(&self.requests)?);
        for request in requests {
            writeln!(file, "{}", request.len())?;
            file.write_all(&request)?;
        }
        file.flush()?;
        Ok(self)
    }

    /// One request in this time, instead of as many as can be.
    pub(crate) fn every(mut self, every: Duration) -> Self {
        self.every = Some(every);
        self
    }

    /// The command that [`Load::run`] runs, without what differs from machine to machine.
    pub(crate) fn command(&self, seconds: Duration) -> String {
        format!("wrk -t1 -c{} -d{}s", self.connections, seconds.as_secs())
    }

    /// Sends for so long, whole seconds.
    ///
    /// # Errors
    /// A request that was refused or not answered: then nothing was measured.
    pub(crate) fn run(&self, seconds: Duration) -> Result<Outcome> {
        let mut wrk = Command::new("wrk");
        wrk.arg("-t1").arg(format!("-c{}", self.connections)).arg(format!("-d{}s", seconds.as_secs().max(1)));
        wrk.args(["--timeout", "10s", "-s"]).arg(&self.script).arg(format!("http://{}", self.address));
        wrk.env("REQUESTS", &self.requests);
        if let Some(every) = self.every {
            wrk.env("EVERY_US", every.as_micros().to_string());
        }
        let printed = run(&mut wrk)?;
        let told = printed.lines().find(|line| line.starts_with('{')).context("wrk's script told nothing")?;
        let outcome: Outcome = serde_json::from_str(told).with_context(|| format!("wrk's script told {told}"))?;
        ensure!(outcome.refused == 0 && outcome.broken == 0, "requests failed: {outcome:?}");
        ensure!(outcome.requests > 0.0, "nothing was answered");
        Ok(outcome)
    }
}

/// A `GET` of `target`.
pub(crate) fn get(target: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    request("GET", target, headers, &[])
}

/// A `POST` of `body` to `target`.
pub(crate) fn post(target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    request("POST", target, headers, body)
}

fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if method == "POST" {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    [request.as_bytes(), body].concat()
}
