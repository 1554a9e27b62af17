//! The real binary.

use std::process::Stdio;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::Database;

/// What a run of the binary printed, and how it ended.
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
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

/// `serve` on a free port, and its address once it says so.
pub async fn serve(database: &Database, settings: &[(&str, &str)]) -> (Child, String) {
    let (child, address, _) = serve_logged(database, settings).await;
    (child, address)
}

/// The same, and the lines of its log as they come.
pub async fn serve_logged(database: &Database, settings: &[(&str, &str)]) -> (Child, String, Arc<Mutex<Vec<String>>>) {
    let mut child = command(&["serve"])
        .env("DATABASE_URL", database.url())
        .env("LISTEN", "127.0.0.1:0")
        .envs(settings.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = loop {
        let line = lines.next_line().await.unwrap().expect("serve says where it listens");
        let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        if let Some(address) = event["address"].as_str() {
            break address.to_owned();
        }
    };
    // Somebody must go on reading, or the process would wait for room in the pipe.
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let written = Arc::clone(&log);
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            written.lock().unwrap().push(line);
        }
    });
    (child, format!("http://{address}"), log)
}
