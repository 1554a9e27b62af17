//! The real binary.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::Database;

/// What a run of the binary printed, and how it ended.
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Sends a running process a signal, such as TERM.
pub fn signal(name: &str, pid: impl std::fmt::Display) {
    let sent = std::process::Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap();
    assert!(sent.success(), "kill -{name} {pid}");
}

/// A command of the binary with none of this process's own settings but those given.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_endpoint-stats"));
    command.args(arguments).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// Runs a command of the binary on a database to its end.
pub async fn run(database: &Database, arguments: &[&str]) -> Finished {
    let output = command(arguments).env("DATABASE_URL", database.url()).output().await.unwrap();
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// `serve` on a free port and open to anybody, unless `settings` say otherwise, and its address once it says so.
pub async fn serve(database: &Database, settings: &[(&str, &str)]) -> (Child, String) {
    let (child, address, _) = serve_and_log(database, settings).await;
    (child, address)
}

/// The same, and what it has logged so far, line by line; complete once the sender's side is gone with the process.
pub async fn serve_and_log(
    database: &Database,
    settings: &[(&str, &str)],
) -> (Child, String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let mut child = command(&["serve"])
        .env("DATABASE_URL", database.url())
        .env("LISTEN", "127.0.0.1:0")
        .env("AUTH", "off")
        .envs(settings.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (log, logged) = tokio::sync::mpsc::unbounded_channel();
    let address = loop {
        let line = lines.next_line().await.unwrap().expect("serve says where it listens");
        let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        let _ = log.send(line);
        if let Some(address) = event["address"].as_str() {
            break address.to_owned();
        }
    };
    // Somebody must go on reading, or the process would wait for room in the pipe.
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            let _ = log.send(line);
        }
    });
    (child, format!("http://{address}"), logged)
}
