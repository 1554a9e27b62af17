//! The log in files, by the real binary.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use chrono::{NaiveDate, Utc};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::harness::{Database, http_client, process, until};

/// A service without work stops at once. The rest is for a busy machine.
const STOPS_WITHIN: Duration = Duration::from_secs(15);

/// The lines of all log files in `dir`, which holds nothing else.
pub fn lines_of_files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
        .iter()
        .flat_map(|name| {
            let day = name.strip_prefix("endpoint-stats.").and_then(|rest| rest.strip_suffix(".log"));
            assert!(day.is_some_and(|day| day.parse::<NaiveDate>().is_ok()), "{name}");
            let text = fs::read_to_string(dir.join(name)).unwrap();
            assert!(text.is_empty() || text.ends_with('\n'), "{name} ends within a line");
            text.lines().map(ToOwned::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

fn events(dir: &Path) -> Vec<Value> {
    let lines = lines_of_files(dir);
    lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
}

fn path(dir: &tempfile::TempDir) -> &str {
    dir.path().to_str().unwrap()
}

/// What today's file is called; a test that could run past midnight makes tomorrow's too.
fn todays_names() -> [String; 2] {
    let today = Utc::now().date_naive();
    [today, today.succ_opt().unwrap()].map(|day| format!("endpoint-stats.{day}.log"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_in_the_file_of_the_day_to_its_last_line() {
    let (database, dir) = (Database::create().await, tempfile::tempdir().unwrap());
    for run in 1..=5 {
        let (mut child, address, mut printed) = process::serve_and_log(&database, &[("LOG_DIR", path(&dir))]).await;
        assert!(http_client().get(format!("{address}/readyz")).send().await.unwrap().status().is_success());
        process::signal("TERM", child.id().unwrap());
        let status = tokio::time::timeout(STOPS_WITHIN, child.wait()).await.expect("stops in time").unwrap();
        assert_eq!(status.code(), Some(0));

        // Stdout says where it listens and where the rest is, and no more.
        let first: Value = serde_json::from_str(&printed.recv().await.unwrap()).unwrap();
        assert_eq!((&first["message"], &first["logs"]), (&json!("serving"), &json!(path(&dir))));
        assert_eq!(first["address"], address.strip_prefix("http://").unwrap());
        assert_eq!(printed.recv().await, None);

        let events = events(dir.path());
        assert_eq!(events.iter().filter(|event| event["message"] == "serving").count(), run, "a run adds its lines");
        assert_eq!(events.last().unwrap()["message"], "stopped");
        assert!(events.iter().all(|event| event["timestamp"].is_string() && event["level"].is_string()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_at_once_by_a_second_signal_it_has_written_its_last_line_too() {
    let (database, dir) = (Database::create().await, tempfile::tempdir().unwrap());
    let (mut child, address) = process::serve(&database, &[("LOG_DIR", path(&dir))]).await;
    let address = address.strip_prefix("http://").unwrap().to_owned();
    // The service waits for the end of this request.
    let mut request = TcpStream::connect(&address).await.unwrap();
    let head =
        "POST /api/v1/requests HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{";
    request.write_all(head.as_bytes()).await.unwrap();
    // Asked after it, and answered: so it has arrived.
    assert!(http_client().get(format!("http://{address}/livez")).send().await.unwrap().status().is_success());
    process::signal("TERM", child.id().unwrap());
    until("it has heard", async || TcpStream::connect(&address).await.is_err()).await;
    process::signal("TERM", child.id().unwrap());
    let status = tokio::time::timeout(STOPS_WITHIN, child.wait()).await.expect("ends").unwrap();
    assert_eq!(status.code(), Some(143));
    assert_eq!(events(dir.path()).last().unwrap()["message"], "told again to stop, and ends at once");
    drop(request);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_written_is_named_and_nothing_starts() {
    let (database, dir) = (Database::create().await, tempfile::tempdir().unwrap());
    let (file, blocked) = (dir.path().join("file"), dir.path().join("blocked"));
    fs::write(&file, "not a directory").unwrap();
    for name in todays_names() {
        fs::create_dir_all(blocked.join(name)).unwrap();
    }
    for (dir, reason) in [
        (file.clone(), "it is not a directory"),
        (file.join("below"), "Not a directory"),
        (blocked, "Is a directory"),
        ("/proc/endpoint-stats".into(), "No such file or directory"),
    ] {
        let dir = dir.to_str().unwrap();
        let done = process::run(&database, &["serve", "--listen", "127.0.0.1:0", "--log-dir", dir]).await;
        println!("{}", done.stderr.trim_end());
        assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{dir}");
        let begins = format!("endpoint-stats: log files cannot be written in {dir} (LOG_DIR): {reason}");
        assert!(done.stderr.starts_with(&begins) && done.stderr.lines().count() == 1, "{}", done.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_costs_the_lines_and_nothing_else() {
    let (database, dir) = (Database::create().await, tempfile::tempdir().unwrap());
    // Whatever is written there finds no space.
    for name in todays_names() {
        symlink("/dev/full", dir.path().join(name)).unwrap();
    }
    let mut command = process::command(&["serve"]);
    let settings = [("LISTEN", "127.0.0.1:0"), ("AUTH", "off"), ("RUST_LOG", "trace"), ("LOG_DIR", path(&dir))];
    command.env("DATABASE_URL", database.url()).envs(settings);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdout = tokio::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    tokio::io::AsyncBufReadExt::read_line(&mut stdout, &mut line).await.unwrap();
    let serving: Value = serde_json::from_str(&line).expect("serve says where it listens");
    let address = serving["address"].as_str().unwrap();
    // Thousands of lines at this level: more than may wait for a disk.
    let client = http_client();
    for _ in 0..300 {
        let answer = client.get(format!("http://{address}/api/v1/endpoints/top?window=1h")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    process::signal("TERM", child.id().unwrap());
    let output = tokio::time::timeout(STOPS_WITHIN, child.wait_with_output()).await.expect("stops in time").unwrap();
    assert_eq!(output.status.code(), Some(0));
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told, "endpoint-stats: the log cannot be written: No space left on device (os error 28)\n");
}

/// What answers from memory does without: only what may have something to log is worth the name of its request.
#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_logged_with_the_id_of_its_request() {
    let database = Database::create().await;
    let (child, address, mut logged) = process::serve_and_log(&database, &[]).await;
    let get = async |path: &str| http_client().get(format!("{address}{path}")).send().await.unwrap();
    // Known from now on, but for a second only.
    assert_eq!(get("/api/v1/overview?window=1h").await.status(), 200);
    let shut = database.shut().await;
    let mine = http_client().get(format!("{address}/api/v1/endpoints/top")).header("X-Request-Id", "mine.1");
    let own = mine.send().await.unwrap();
    let given = get("/api/v1/daily").await;
    let job = get("/api/v1/jobs").await;
    shut.open().await;
    process::signal("TERM", child.id().unwrap());
    let mut lines = Vec::new();
    while let Some(line) = logged.recv().await {
        lines.push(serde_json::from_str::<Value>(&line).unwrap());
    }
    let id = |response: &reqwest::Response| response.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!(id(&own), "mine.1");
    for (response, message) in [
        (own, "a question was not answered"),
        (given, "a question was not answered"),
        (job, "maintenance could not be asked"),
    ] {
        assert_eq!(response.status(), 503);
        let id = id(&response);
        let told = lines.iter().any(|line| line["message"] == message && line["span"]["id"] == id.as_str());
        assert!(told, "{message} for {id}: {lines:?}");
    }
}
