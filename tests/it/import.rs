//! `import` by the real binary: what goes in, what is turned down, and that nothing goes in twice.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use crate::harness::process::{self, Finished};
use crate::harness::{Database, data};

/// Lines to a piece of a file, the unit in which an import is stored; see `chunks`.
const PIECE: usize = 5_000;

/// A line of an Apache log.
fn line(at: DateTime<Utc>, path: &str, status: u16) -> String {
    format!(
        r#"192.0.2.7 - - [{}] "GET {path} HTTP/1.1" {status} 512 "-" "curl/8""#,
        at.format("%d/%b/%Y:%H:%M:%S +0000")
    )
}

/// The lines `from..to` of a log that ends about now: four a second, so that many look alike.
fn log(began: DateTime<Utc>, lines: std::ops::Range<usize>) -> String {
    let statuses = [200, 200, 304, 404, 500];
    lines.fold(String::new(), |mut text, n| {
        let at = began + TimeDelta::seconds(n as i64 / 4);
        text += &line(at, &format!("/pages/p{}", if n % 3 == 0 { "first" } else { "second" }), statuses[n % 5]);
        text.push('\n');
        text
    })
}

fn an_hour_ago() -> DateTime<Utc> {
    Utc::now() - TimeDelta::hours(1)
}

fn file(folder: &TempDir, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    text(&path)
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// `import` that ends well. Gives what it printed without the name of the file before the first line.
async fn import(database: &Database, arguments: &[&str]) -> String {
    let done = attempt(database, arguments).await;
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{}", done.stdout);
    let (_, told) = done.stdout.split_once(": ").unwrap_or_else(|| panic!("{}", done.stdout));
    told.to_owned()
}

async fn attempt(database: &Database, arguments: &[&str]) -> Finished {
    process::run(database, &[&["import"], arguments].concat()).await
}

async fn import_from_stdin(database: &Database, options: &[&str], input: &[u8]) -> Finished {
    let mut child = process::command(&[&["import", "-"], options].concat())
        .env("DATABASE_URL", database.url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).await.unwrap();
    let done = child.wait_with_output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Finished { code: done.status.code(), stdout: text(done.stdout), stderr: text(done.stderr) }
}

/// The rollups say what the raw requests say.
async fn assert_verified(database: &Database) {
    let done = process::run(database, &["verify"]).await;
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (Some(0), "", ""));
}

async fn requests(database: &Database) -> i64 {
    database.number("SELECT count(*) FROM requests").await
}

/// How often each status is there.
async fn statuses(database: &Database) -> BTreeMap<i16, i64> {
    let rows =
        database.connect().await.query("SELECT status, count(*) FROM requests GROUP BY status", &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// The ranking by `top`, without what differs between two databases that were asked one after the other.
async fn ranking(database: &Database, by: &str) -> Value {
    let done =
        process::run(database, &["top", "--window", "400d", "--limit", "1000", "--by", by, "--format", "json"]).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let mut answer: Value = serde_json::from_str(&done.stdout).unwrap();
    for row in answer["rows"].as_array_mut().unwrap() {
        let row = row.as_object_mut().unwrap();
        row.remove("id");
        row.remove("requests_per_second");
    }
    let total = answer["total"].as_object_mut().unwrap();
    total.remove("requests_per_second");
    json!({"rows": answer["rows"], "total": answer["total"]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_apache_log_goes_in_once_and_its_broken_line_is_named() {
    let Some(log) = data::file("apache/apache_combined_10000.log.gz") else { return };
    let log = text(&log);
    let database = Database::create().await;
    let told = import(&database, &[&log, "--shift-to-now"]).await;
    let (summary, rejects) = told.split_once('\n').unwrap();
    assert_eq!(summary, "9,999 records in, 1 rejected");
    assert!(rejects.starts_with("  line 8,899: "), "{rejects}");
    assert_eq!(rejects.lines().count(), 1, "{rejects}");

    // All 10,000 lines have 9,126 times 200; the broken line is one of them. The total shows that the 19 lines that repeat
    // another one count as requests of their own.
    let counts = [(200, 9_125), (206, 45), (301, 164), (304, 445), (403, 2), (404, 213), (416, 2), (500, 3)];
    assert_eq!(statuses(&database).await, BTreeMap::from(counts));
    let ranking = ranking(&database, "requests").await;
    let total = &ranking["total"];
    assert_eq!(
        (&total["requests"], &total["errors"], &total["client_errors"]),
        (&json!(9_999), &json!(3), &json!(217))
    );
    // The log has no response times: that is not the same as times of zero.
    assert_eq!((&total["avg_ms"], &total["p50_ms"]), (&Value::Null, &Value::Null));
    assert_verified(&database).await;

    let again = import(&database, &[&log, "--shift-to-now"]).await;
    assert_eq!(again, "0 records in, 0 rejected, 10,000 lines were in already\n");
    assert_eq!(requests(&database).await, 9_999);
    assert_verified(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_requests_in_three_formats_give_the_same_ranking() {
    let mut rankings = Vec::new();
    for format in ["combined", "json", "ltsv"] {
        let Some(log) = data::file(&format!("alp_examples/{format}_access.log")) else { return };
        let database = Database::create().await;
        assert_eq!(
            import(&database, &[&text(&log), "--shift-to-now"]).await,
            "14 records in, 0 rejected\n",
            "{format}"
        );
        rankings.push((ranking(&database, "requests").await, ranking(&database, "max").await));
        assert_verified(&database).await;
    }
    let (by_requests, by_max) = &rankings[0];
    assert_eq!(by_requests["total"]["requests"], 14);
    assert_eq!(by_max["rows"][0]["route"], "/foo/bar/5xx");
    assert_eq!(by_max["rows"][0]["max_ms"], 60_000.0);
    assert!(rankings.iter().all(|ranking| *ranking == rankings[0]), "{rankings:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_and_gzip_under_any_name_are_read() {
    let folder = TempDir::new().unwrap();
    let began = an_hour_ago();
    let database = Database::create().await;
    let packed = file(&folder, "access.log", gzip(&log(began, 0..300)));
    assert_eq!(import(&database, &[&packed]).await, "300 records in, 0 rejected\n");

    // Gzip, several members in a row as `cat a.gz b.gz` makes them, and plain text; each its own file by its content.
    let members = [gzip(&log(began, 300..400)), gzip(&log(began, 400..450))].concat();
    for (input, records) in [(members, 150), (log(began, 450..500).into_bytes(), 50)] {
        let done = import_from_stdin(&database, &[], &input).await;
        assert_eq!((done.code, done.stdout), (Some(0), format!("-: {records} records in, 0 rejected\n")));
    }
    assert_eq!(requests(&database).await, 500);

    let done = import_from_stdin(&database, &["--shift-to-now"], log(began, 0..5).as_bytes()).await;
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("reads the file twice"), "{}", done.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_already_is_known_again_packed_or_not_and_apart_from_other_services() {
    let folder = TempDir::new().unwrap();
    let log = log(an_hour_ago(), 0..200);
    let (plain, packed) = (file(&folder, "a.log", &log), file(&folder, "b.log", gzip(&log)));
    let database = Database::create().await;
    assert_eq!(import(&database, &[&plain]).await, "200 records in, 0 rejected\n");
    // Log rotation packs and renames files.
    assert_eq!(import(&database, &[&packed]).await, "0 records in, 0 rejected, 200 lines were in already\n");
    assert_eq!(import(&database, &[&plain, "--service", "blog"]).await, "200 records in, 0 rejected\n");
    let blog = "SELECT count(*) FROM requests JOIN endpoints ON id = endpoint_id WHERE service = 'blog'";
    assert_eq!((requests(&database).await, database.number(blog).await), (400, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_records_go_in_and_those_turned_down_are_named_by_line() {
    let folder = TempDir::new().unwrap();
    let now = Utc::now() - TimeDelta::minutes(2);
    let good = json!({"timestamp": now.to_rfc3339(), "service": "shop", "method": "GET", "route": "/items/{id}", "status": 200, "response_time_ms": 12.5});
    let by_path = json!({"timestamp": now.timestamp_millis(), "method": "POST", "path": "/carts/17", "status": 503});
    let mut bad = good.clone();
    bad["status"] = json!(99);
    let lines = format!("{good}\n\n{bad}\n{{oops\n{by_path}\n");
    let records = file(&folder, "records.ndjson", lines);
    let database = Database::create().await;
    let told = import(&database, &[&records, "--service", "till"]).await;
    let told: Vec<&str> = told.lines().collect();
    assert_eq!(told[0], "2 records in, 2 rejected");
    // The empty line is no record, and still a line.
    assert!(told[1].starts_with("  line 3: status "), "{told:?}");
    assert!(told[2].starts_with("  line 4: "), "{told:?}");
    let ranking = ranking(&database, "max").await;
    let found: Vec<_> = ranking["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (&row["service"], &row["route"], &row["errors"]))
        .collect();
    // --service is for records that name none.
    let expected = [(json!("shop"), json!("/items/{id}"), json!(0)), (json!("till"), json!("/carts/{id}"), json!(1))];
    assert_eq!(found, expected.iter().map(|(service, route, errors)| (service, route, errors)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_is_not_known_can_be_named_and_only_the_first_rejects_are_printed() {
    let folder = TempDir::new().unwrap();
    let lines = format!("{}{}", "no request at all\n".repeat(25), log(an_hour_ago(), 0..30));
    let odd = file(&folder, "odd.log", lines);
    let database = Database::create().await;
    let done = attempt(&database, &[&odd]).await;
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""));
    assert!(done.stderr.contains("odd.log") && done.stderr.contains("--format"), "{}", done.stderr);
    assert_eq!(requests(&database).await, 0);

    let told = import(&database, &[&odd, "--format", "combined"]).await;
    let told: Vec<&str> = told.lines().collect();
    assert_eq!((told[0], told.len()), ("30 records in, 25 rejected", 12), "{told:?}");
    assert!(told[1].starts_with("  line 1: ") && told[10].starts_with("  line 10: "), "{told:?}");
    assert_eq!(told[11], "  … and 15 more");

    let done = attempt(&database, &[&odd, "--format", "xml"]).await;
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("use combined (or common), ltsv, json or ndjson"), "{}", done.stderr);
    let done = attempt(&database, &[&text(&folder.path().join("missing.log"))]).await;
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("missing.log"), "{}", done.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_file_that_has_grown_only_the_new_lines_go_in() {
    let folder = TempDir::new().unwrap();
    let began = an_hour_ago();
    let database = Database::create().await;
    for (lines, told) in [
        (7_000, "7,000 records in, 0 rejected\n"),
        (7_300, "300 records in, 0 rejected, 7,000 lines were in already\n"),
        (13_000, "5,700 records in, 0 rejected, 7,300 lines were in already\n"),
        (13_000, "0 records in, 0 rejected, 13,000 lines were in already\n"),
    ] {
        let path = file(&folder, "access.log", log(began, 0..lines));
        assert_eq!(import(&database, &[&path]).await, told);
        assert_eq!(requests(&database).await, lines as i64);
    }
    assert_verified(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_read_while_its_last_line_was_being_written_is_counted_once_when_it_has_grown() {
    let folder = TempDir::new().unwrap();
    let whole = log(an_hour_ago(), 0..40);
    let database = Database::create().await;
    // Cut inside the last line but ten; then right before a line's end, as a file without a last line feed is.
    let end_of_30 = whole.match_indices('\n').nth(29).unwrap().0;
    let end_of_35 = whole.match_indices('\n').nth(34).unwrap().0;
    for (cut, records) in [(end_of_30 - 40, 29), (end_of_35, 35), (whole.len(), 40)] {
        let path = file(&folder, "access.log", &whole[..cut]);
        import(&database, &[&path]).await;
        assert_eq!(requests(&database).await, records, "cut at {cut}");
    }
    assert_verified(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_killed_again_and_again_is_exact_once_it_ran_to_its_end() {
    let lines = 20 * PIECE;
    let folder = TempDir::new().unwrap();
    // Seven hours of requests, so they lie in several hours and perhaps on two days.
    let path = file(&folder, "access.log", log(Utc::now() - TimeDelta::hours(8), 0..lines));
    let database = Database::create().await;
    let pieces = async || database.number("SELECT count(*) FROM ingest_batches").await;
    // The first is killed in the middle for certain; the others wherever they happen to be, before their first piece too.
    for kill in 0..6 {
        let begin = pieces().await;
        let wanted = begin + if kill == 0 { 1 } else { (RandomState::new().hash_one(kill) % 4) as i64 };
        let mut child = process::command(&["import", &path])
            .env("DATABASE_URL", database.url())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while pieces().await < wanted && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the import stands still");
        }
        child.kill().await.unwrap();
        let stored = pieces().await;
        println!("killed with {stored} of 20 pieces stored");
        assert!(kill > 0 || (1..20).contains(&stored), "the first kill came when {stored} pieces were stored");
        // What is there is whole pieces, at any moment.
        assert_eq!(requests(&database).await, stored * PIECE as i64);
    }
    let known = pieces().await as usize * PIECE;
    let told = import(&database, &[&path]).await;
    assert!(told.contains(" records in, 0 rejected"), "{told}");
    assert!(known == 0 || told.contains(" lines were in already"), "{told}");
    let counts = [(200, lines * 2 / 5), (304, lines / 5), (404, lines / 5), (500, lines / 5)];
    assert_eq!(statuses(&database).await, counts.into_iter().map(|(status, count)| (status, count as i64)).collect());
    assert_eq!(ranking(&database, "requests").await["total"]["requests"], lines);
    assert_verified(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_imports_of_one_file_at_once_each_line_is_taken_by_one() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "access.log", log(Utc::now() - TimeDelta::hours(3), 0..6 * PIECE));
    let database = Database::create().await;
    let files = [path.as_str()];
    let (one, other) = tokio::join!(import(&database, &files), import(&database, &files));
    let imported = |told: &str| told.split_once(" records in").unwrap().0.replace(',', "").parse::<usize>().unwrap();
    assert_eq!(imported(&one) + imported(&other), 6 * PIECE, "{one}{other}");
    assert_eq!(requests(&database).await, 6 * PIECE as i64);
    assert_verified(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_log_gets_a_hint_and_comes_in_either_way_that_it_names() {
    let folder = TempDir::new().unwrap();
    let old = file(&folder, "old.log", log("2015-05-17T10:00:00Z".parse().unwrap(), 0..12));
    let database = Database::create().await;
    let told = import(&database, &[&old]).await;
    assert!(told.starts_with("0 records in, 12 rejected\n  line 1: timestamp "), "{told}");
    assert!(told.contains("INGEST_MAX_AGE=0") && told.contains("--shift-to-now"), "{told}");

    let told = import(&database, &[&old, "--ingest-max-age", "0"]).await;
    assert!(told.starts_with("12 records in, 0 rejected\n"), "{told}");
    assert!(told.contains("12 records are older than 30 days (RETENTION_RAW)"), "{told}");
    assert!(
        told.contains("12 records are older than 400 days (RETENTION_HOURS): taken, but no longer told, and deleted by the next retention"),
        "{told}"
    );
    assert_eq!(requests(&database).await, 0);

    let database = Database::create().await;
    assert_eq!(import(&database, &[&old, "--shift-to-now"]).await, "12 records in, 0 rejected\n");
    // The last request happens now, and the others keep their distance to it.
    let age = "SELECT extract(epoch FROM now() - max(timestamp))::bigint FROM requests";
    assert!((0..60).contains(&database.number(age).await));
    let spread = "SELECT extract(epoch FROM max(timestamp) - min(timestamp))::bigint FROM requests";
    assert_eq!(database.number(spread).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_older_than_raw_requests_are_kept_are_told_and_counted() {
    let folder = TempDir::new().unwrap();
    let mixed = [log(Utc::now() - TimeDelta::days(45), 0..8), log(an_hour_ago(), 0..5)].concat();
    let path = file(&folder, "access.log", mixed);
    let database = Database::create().await;
    let told = import(&database, &[&path]).await;
    let expected = "13 records in, 0 rejected\n  8 records are older than 30 days (RETENTION_RAW): counted, but not kept one by one\n";
    assert_eq!(told, expected);
    assert_eq!(requests(&database).await, 5);
    assert_eq!(ranking(&database, "requests").await["total"]["requests"], 13);
    // What is not kept one by one is not compared either.
    assert_verified(&database).await;
}
