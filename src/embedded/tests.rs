//! On the real Postgres. As root they also try stepping down; as an ordinary user that part is skipped.

use std::process::Command;

use super::*;

const CHILD_DIR: &str = "EMBEDDED_TEST_DIR";

/// Open to the account that root steps down to, whatever the umask.
fn temporary() -> tempfile::TempDir {
    let mode = fs::Permissions::from_mode(0o711);
    tempfile::Builder::new().permissions(mode).tempdir().unwrap()
}

fn options(dir: &Path) -> Options {
    Options { data_dir: dir.to_owned(), durability: Durability::Throwaway, max_connections: 10, settings: vec![] }
}

async fn start(dir: &Path) -> EmbeddedPostgres {
    EmbeddedPostgres::start(options(dir)).await.unwrap()
}

fn psql(url: &str, sql: &str) -> std::result::Result<String, String> {
    let server = fs::canonicalize(Programs::find(None, None).unwrap().path("postgres")).unwrap();
    let out = Command::new(server.with_file_name("psql")).args(["-XAtq", url, "-c", sql]).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap().trim().to_owned();
    if out.status.success() { Ok(text(out.stdout)) } else { Err(text(out.stderr)) }
}

/// Pids of the processes whose command line names the cluster.
fn processes_of(cluster: &Path) -> Vec<String> {
    let out = Command::new("ps").args(["-A", "-ww", "-o", "pid=,args="]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let named = text.lines().filter(|line| line.contains(cluster.to_str().unwrap()));
    named.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        std::thread::sleep(POLL);
    }
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_stop_and_a_start() {
    let dir = temporary();
    let first = start(dir.path()).await;
    assert_eq!(psql(first.url(), "SHOW timezone").unwrap(), "UTC");
    assert_eq!(psql(first.url(), "SHOW server_encoding").unwrap(), "UTF8");
    assert_eq!(psql(first.url(), "SHOW listen_addresses").unwrap(), "127.0.0.1");
    assert_eq!(psql(first.url(), "SHOW max_connections").unwrap(), "10");
    psql(first.url(), "CREATE TABLE kept AS SELECT 7 AS n").unwrap();
    let cluster = first.data_dir().to_owned();
    first.stop().await.unwrap();
    assert_eq!(processes_of(&cluster), Vec::<String>::new());

    let mut second = start(dir.path()).await;
    assert_eq!(psql(second.url(), "SELECT n FROM kept").unwrap(), "7");
    assert!(second.is_running());
    drop(second);
    until("gone after a drop", || processes_of(&cluster).is_empty());
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_the_right_one_stays_secret() {
    let dir = temporary();
    let server = start(dir.path()).await;
    let password = fs::read_to_string(dir.path().join("postgres.password")).unwrap();
    assert_eq!(password.len(), 32);
    assert_eq!(fs::metadata(dir.path().join("postgres.password")).unwrap().mode() & 0o777, 0o600);
    assert!(server.url().contains(&password) && !format!("{server:?}").contains(&password));
    let refused = psql(&server.url().replace(&password, "guess"), "SELECT 1").unwrap_err();
    assert!(refused.contains("password authentication failed"), "{refused}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_start_says_that_it_is_already_running() {
    let dir = temporary();
    let first = start(dir.path()).await;
    let error = EmbeddedPostgres::start(options(dir.path())).await.unwrap_err();
    assert!(matches!(error, EmbeddedError::AlreadyRunning(_)), "{error}");
    assert_eq!(psql(first.url(), "SELECT 1").unwrap(), "1");
    first.stop().await.unwrap();
}

#[tokio::test]
async fn a_setting_that_postgres_refuses_is_told_with_its_log() {
    let dir = temporary();
    let settings = vec![("no_such_setting".to_owned(), "1".to_owned())];
    let error = EmbeddedPostgres::start(Options { settings, ..options(dir.path()) }).await.unwrap_err().to_string();
    assert!(error.contains("no_such_setting"), "{error}");
    start(dir.path()).await.stop().await.unwrap();
}

#[tokio::test]
async fn a_cluster_cut_off_half_way_is_made_again() {
    let dir = temporary();
    let unfinished = dir.path().join("postgres.unfinished");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("PG_VERSION"), "15").unwrap();
    start(dir.path()).await.stop().await.unwrap();
    assert!(!unfinished.exists());
}

#[tokio::test]
async fn a_stale_pid_file_does_not_stop_the_start_even_if_the_pid_lives_again() {
    let dir = temporary();
    let server = start(dir.path()).await;
    let cluster = server.data_dir().to_owned();
    let left = fs::read_to_string(cluster.join("postmaster.pid")).unwrap();
    server.stop().await.unwrap();

    let mut other = command("sleep", User::to_step_down_to().unwrap()).arg("60").spawn().unwrap();
    let (_, rest) = left.split_once('\n').unwrap();
    fs::write(cluster.join("postmaster.pid"), format!("{}\n{rest}", other.id())).unwrap();
    fs::write(cluster.join("endpoint-stats.pid"), format!("{}\n", other.id())).unwrap();
    let started = EmbeddedPostgres::start(options(dir.path())).await;
    other.kill().unwrap();
    other.wait().unwrap();
    started.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_dies_is_noticed() {
    let dir = temporary();
    let mut server = start(dir.path()).await;
    let pid = fs::read_to_string(server.data_dir().join("endpoint-stats.pid")).unwrap();
    assert!(Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap().success());
    let error = tokio::time::timeout(Duration::from_secs(10), server.ended()).await.unwrap();
    assert!(error.to_string().contains("ended unexpectedly"), "{error}");
    start(dir.path()).await.stop().await.unwrap();
}

/// Does not outlive a failing test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Not a test by itself: the process that the next one kills.
#[tokio::test]
#[ignore = "run by a_killed_parent_leaves_no_server_and_the_next_start_recovers"]
async fn stands_in_for_the_parent() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let dir = PathBuf::from(dir);
    let server = start(&dir).await;
    fs::write(dir.join("url"), server.url()).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_parent_leaves_no_server_and_the_next_start_recovers() {
    let dir = temporary();
    let module = module_path!().split_once("::").unwrap().1;
    let parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("{module}::stands_in_for_the_parent"), "--ignored"])
        .env(CHILD_DIR, dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut parent = Killed(parent);
    let url = dir.path().join("url");
    until("the parent's server is ready", || fs::read_to_string(&url).is_ok_and(|url| url.contains("endpoint_stats")));
    psql(&fs::read_to_string(&url).unwrap(), "CREATE TABLE kept AS SELECT 7 AS n").unwrap();
    parent.0.kill().unwrap();
    parent.0.wait().unwrap();

    // At once, while the old server is still stopping.
    let next = start(dir.path()).await;
    assert_eq!(psql(next.url(), "SELECT n FROM kept").unwrap(), "7");
    let cluster = next.data_dir().to_owned();
    next.stop().await.unwrap();
    until("no server is left", || processes_of(&cluster).is_empty());
}

#[tokio::test]
async fn as_root_a_closed_data_directory_moves_the_cluster_and_finds_it_again() {
    if User::to_step_down_to().unwrap().is_none() {
        return;
    }
    let mode = fs::Permissions::from_mode(0o700);
    let closed = tempfile::Builder::new().permissions(mode).tempdir().unwrap();
    let dir = closed.path().join("data");
    let first = start(&dir).await;
    let cluster = first.data_dir().to_owned();
    assert!(cluster.starts_with(RELOCATED), "{}", cluster.display());
    assert_eq!(fs::canonicalize(dir.join("postgres")).unwrap(), cluster);
    psql(first.url(), "CREATE TABLE kept AS SELECT 7 AS n").unwrap();
    first.stop().await.unwrap();
    let second = start(&dir).await;
    assert_eq!(psql(second.url(), "SELECT n FROM kept").unwrap(), "7");
    second.stop().await.unwrap();
    fs::remove_dir_all(cluster.parent().unwrap()).unwrap();
}
