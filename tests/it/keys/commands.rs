//! The command `keys` and the options of `serve`, on the real binary.

use std::time::Duration;

use tokio::process::Child;

use super::{QUESTION, RECORDS, within_five_seconds};
use crate::harness::process::{self, Finished};
use crate::harness::{Database, http_client, record};

const REQUIRED: (&str, &str) = ("AUTH", "required");

/// A key as the command prints it.
async fn made(database: &Database, arguments: &[&str]) -> String {
    let Finished { code, stdout, stderr } = process::run(database, &[&["keys", "create"], arguments].concat()).await;
    assert_eq!(code, Some(0), "{stderr}");
    let key = stdout.strip_suffix('\n').unwrap_or_default();
    assert!(key.len() == 55 && key.starts_with("es_") && !key.contains(char::is_whitespace), "alone: {stdout}");
    assert!(!stderr.contains(&key[12..]), "once: {stderr}");
    key.to_owned()
}

/// Status of a question and of a POST of a record.
async fn statuses(address: &str, key: &str) -> (u16, u16) {
    let client = http_client();
    let read = client.get(format!("{address}{QUESTION}")).bearer_auth(key).send().await.unwrap();
    let now = chrono::Utc::now().to_rfc3339();
    let write = client.post(format!("{address}{RECORDS}")).json(&record(&now, "/items", 1.0));
    let write = write.bearer_auth(key).send().await.unwrap();
    (read.status().as_u16(), write.status().as_u16())
}

async fn stopped(mut child: Child) {
    child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_made_by_the_command_open_and_those_revoked_close_two_replicas() {
    let database = Database::create().await;
    let (one, address) = process::serve(&database, &[REQUIRED]).await;
    let (other, other_address) = process::serve(&database, &[REQUIRED]).await;
    let ingest = made(&database, &["--scope", "ingest", "--name", "shop"]).await;
    let read = made(&database, &["--scope", "read"]).await;
    let admin = made(&database, &["--scope", "admin", "--name", "me"]).await;
    for address in [&address, &other_address] {
        assert_eq!(statuses(address, &ingest).await, (403, 200));
        assert_eq!(statuses(address, &read).await, (200, 403));
        assert_eq!(statuses(address, &admin).await, (200, 200));
    }

    let list = process::run(&database, &["keys", "list"]).await;
    let lines: Vec<Vec<&str>> = list.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "PREFIX", "SCOPE", "CREATED", "REVOKED"]);
    let named = |key: &str| format!("read-{}", &key[3..11]);
    for (line, (key, name, scope)) in
        lines[1..].iter().zip([(&ingest, "shop", "ingest"), (&read, &named(&read), "read"), (&admin, "me", "admin")])
    {
        assert_eq!((line[0], line[1], line[2], line[5]), (name, &key[3..11], scope, "-"));
        assert!(!list.stdout.contains(&key[12..]), "{}", list.stdout);
    }
    assert_eq!(lines.len(), 4);

    // By name, by prefix, and by the whole key, for whoever found it where it should not be.
    for (key, wanted) in [(&ingest, "shop"), (&read, &read[3..11]), (&admin, admin.as_str())] {
        let revoked = process::run(&database, &["keys", "revoke", wanted]).await;
        assert_eq!((revoked.code, revoked.stdout.as_str()), (Some(0), ""), "{}", revoked.stderr);
        assert!(!revoked.stderr.contains(&key[12..]), "{}", revoked.stderr);
    }
    // All at once: each refusal may wait for a load, and twelve in a row would take longer than what is measured.
    within_five_seconds("both replicas refuse all three", async || {
        let asked = [&address, &other_address]
            .into_iter()
            .flat_map(|address| [&ingest, &read, &admin].map(|key| statuses(address, key)));
        futures_util::future::join_all(asked).await.into_iter().all(|found| found == (401, 401))
    })
    .await;
    let list = process::run(&database, &["keys", "list"]).await;
    assert_eq!(list.stdout.lines().skip(1).filter(|line| line.ends_with('Z')).count(), 3, "{}", list.stdout);
    stopped(one).await;
    stopped(other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_told() {
    let database = Database::create().await;
    made(&database, &["--scope", "read", "--name", "shop"]).await;
    for (arguments, code, told) in [
        (vec!["create", "--scope", "read", "--name", "shop"], 1, "named shop"),
        (vec!["create", "--scope", "owner"], 2, "ingest, read or admin"),
        (vec!["create"], 2, "--scope"),
        (vec!["create", "--scope", "read", "--name", " "], 2, "printable"),
        (vec!["revoke", "nobody"], 1, "nobody"),
        (vec!["revoke"], 2, "NAME"),
    ] {
        let finished = process::run(&database, &[vec!["keys"], arguments.clone()].concat()).await;
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(code), ""), "{arguments:?}");
        assert!(finished.stderr.contains(told), "{arguments:?}: {}", finished.stderr);
    }
    let missing = process::command(&["keys", "list"]).output().await.unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("DATABASE_URL is missing"));
    let away = process::command(&["keys", "list"]).env("DATABASE_URL", "postgres://nobody@127.0.0.1:9/none").output();
    assert_eq!(away.await.unwrap().status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_key_may_be_made_before_the_service_ran() {
    let database = Database::empty().await;
    let list = process::run(&database, &["keys", "list"]).await;
    assert_eq!(list.code, Some(1), "as `top`: a schema that is missing is an error");
    let key = made(&database, &["--scope", "read"]).await;
    let (child, address, mut log) = process::serve_and_log(&database, &[REQUIRED]).await;
    assert_eq!(statuses(&address, &key).await, (200, 403));
    stopped(child).await;
    while let Some(line) = log.recv().await {
        assert!(!line.contains("no API key"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_keys_says_how_to_make_one() {
    let database = Database::create().await;
    // An address that others reach: keys make that safe.
    let (child, _, mut log) = process::serve_and_log(&database, &[REQUIRED, ("LISTEN", "0.0.0.0:0")]).await;
    stopped(child).await;
    let mut lines = Vec::new();
    while let Some(line) = log.recv().await {
        lines.push(line);
    }
    let warning = lines.iter().find(|line| line.contains("WARN") && line.contains("keys create"));
    assert!(warning.is_some(), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("\"auth\":\"required\"")), "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_it_listens_where_only_this_machine_reaches_it() {
    let database = Database::create().await;
    let open = ["serve", "--auth", "off", "--listen", "0.0.0.0:0"];
    let refused = process::run(&database, &open).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("--i-know-auth-is-off") && refused.stderr.contains("AUTH"), "{}", refused.stderr);
    let mut knowing = process::command(&[&open[..], &["--i-know-auth-is-off"]].concat())
        .env("DATABASE_URL", database.url())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(1), knowing.wait()).await;
    assert!(ended.is_err(), "it serves: {ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_ever_logged() {
    let database = Database::create().await;
    let settings = [REQUIRED, ("RUST_LOG", "trace")];
    let (child, address, mut log) = process::serve_and_log(&database, &settings).await;
    let key = made(&database, &["--scope", "admin"]).await;
    let stranger = endpoint_stats::domain::ApiKey::generate().unwrap();
    let malformed = format!("{key}-and-more");
    assert_eq!(statuses(&address, &key).await, (200, 200));
    for wrong in [stranger.reveal(), &malformed] {
        assert_eq!(statuses(&address, wrong).await, (401, 401));
    }
    let client = http_client();
    let in_query = client.get(format!("{address}{QUESTION}&token={key}")).send().await.unwrap();
    assert_eq!(in_query.status(), 400);
    let revoked = process::run(&database, &["keys", "revoke", &key]).await;
    assert_eq!(revoked.code, Some(0));
    within_five_seconds("it is refused", async || statuses(&address, &key).await == (401, 401)).await;
    stopped(child).await;
    let mut lines = 0;
    while let Some(line) = log.recv().await {
        lines += 1;
        for secret in [&key[12..], &stranger.reveal()[12..]] {
            assert!(!line.contains(secret), "{line}");
        }
    }
    assert!(lines > 10, "the log was read: {lines} lines");
}
