//! A Postgres and a streaming replica of it, for one test at a time.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use endpoint_stats::embedded::{Durability, EmbeddedPostgres};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use super::servers::{Database, connect, free_port, sibling, start_postgres};
use super::until;

/// A standby is refused that allows fewer connections than its primary.
const MAX_CONNECTIONS: u16 = 100;

/// Runs "$@" for as long as standard input stays open. QUIT needs no goodwill of sessions; a server that is frozen gets it
/// when it goes on. The kernel sends HUP to a group that loses its parent while one of it is frozen.
const SUPERVISOR: &str = r#"
trap '' HUP
"$@" & server=$!
cat >/dev/null
children=$(ps -A -o pid= -o ppid= | awk -v server=$server '$2 == server { print $1 }')
kill -CONT $server $children
kill -QUIT $server
wait $server"#;

/// The two servers. Both end with this process, however it ends.
pub struct Pair {
    primary: EmbeddedPostgres,
    /// The folder of the server's programs.
    programs: PathBuf,
    cluster: PathBuf,
    /// As whom the replica runs, if not as ourselves: Postgres refuses to run as root.
    user: Option<(u32, u32)>,
    port: u16,
    supervisor: Option<Child>,
}

/// The pair, well and caught up, until the guard is dropped.
pub async fn pair() -> MutexGuard<'static, Pair> {
    static PAIR: OnceCell<Mutex<Pair>> = OnceCell::const_new();
    let mut pair = PAIR.get_or_init(async || Mutex::new(Pair::start().await)).await.lock().await;
    pair.mend().await;
    pair
}

impl Pair {
    async fn start() -> Self {
        let primary = start_postgres("primary", MAX_CONNECTIONS, Durability::Throwaway, &[]).await;
        // The command line of the server begins with the whole path of its program.
        let command_line = std::fs::read_to_string(primary.data_dir().join("postmaster.opts")).unwrap();
        let programs = Path::new(command_line.split(' ').next().unwrap()).parent().unwrap().to_owned();

        // Beside the primary's, where whoever runs that one can go.
        let cluster = primary.data_dir().with_file_name("standby");
        let _ = std::fs::remove_dir_all(&cluster);
        std::fs::create_dir(&cluster).unwrap();
        std::fs::set_permissions(&cluster, std::fs::Permissions::from_mode(0o700)).unwrap();
        let owner = std::fs::metadata(primary.data_dir()).unwrap();
        let ours = std::fs::metadata(&cluster).unwrap().uid();
        let user = (owner.uid() != ours).then(|| (owner.uid(), owner.gid()));
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(&cluster, Some(uid), Some(gid)).unwrap();
        }
        let port = free_port();
        let pair = Self { primary, programs, cluster, user, port, supervisor: None };

        let address = url::Url::parse(pair.primary.url()).unwrap();
        let copied = pair
            .command(&pair.programs.join("pg_basebackup"))
            .args(["-h", "127.0.0.1", "-p", &address.port().unwrap().to_string(), "-U", "postgres"])
            .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "-D"])
            .arg(&pair.cluster)
            .env("PGPASSWORD", address.password().unwrap())
            .output()
            .unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        pair
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Address of the primary's own database.
    pub fn primary_url(&self) -> &str {
        self.primary.url()
    }

    /// Address of a database on the replica.
    pub fn replica_url(&self, database: &Database) -> String {
        let mut url = url::Url::parse(database.url()).unwrap();
        url.set_port(Some(self.port)).unwrap();
        url.to_string()
    }

    async fn replica(&self) -> tokio_postgres::Client {
        let mut url = url::Url::parse(self.primary.url()).unwrap();
        url.set_port(Some(self.port)).unwrap();
        connect(&sibling(url.as_str(), "postgres")).await
    }

    /// Whatever a test before this one did to the replica.
    async fn mend(&mut self) {
        self.thaw();
        self.run().await;
        self.resume().await;
        self.catch_up().await;
    }

    /// Starts the replica, unless it runs.
    pub async fn run(&mut self) {
        if self.supervisor.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None))) {
            return;
        }
        let log = std::fs::File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("standby.log")).unwrap();
        let mut supervisor = self.command(Path::new("sh"));
        supervisor.args(["-c", SUPERVISOR, "standby"]).arg(self.programs.join("postgres")).arg("-D").arg(&self.cluster);
        let (port, connections) = (format!("port={}", self.port), format!("max_connections={MAX_CONNECTIONS}"));
        let fixed = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "shared_buffers=32MB", "fsync=off"];
        for setting in fixed.into_iter().chain([port.as_str(), &connections, "wal_retrieve_retry_interval=100ms"]) {
            supervisor.args(["-c", setting]);
        }
        supervisor.process_group(0).stdin(Stdio::piped()).stderr(log);
        self.supervisor = Some(supervisor.spawn().expect("a shell"));
        let mut url = url::Url::parse(self.primary.url()).unwrap();
        url.set_port(Some(self.port)).unwrap();
        until("the replica lets somebody in (see standby.log)", async || {
            tokio_postgres::connect(url.as_str(), tokio_postgres::NoTls).await.is_ok()
        })
        .await;
    }

    /// Kills the replica as a power cut would.
    pub fn kill(&mut self) {
        let (server, _) = self.pids();
        signal("-KILL", &[server]);
        if let Some(mut supervisor) = self.supervisor.take() {
            drop(supervisor.stdin.take());
            supervisor.wait().unwrap();
        }
    }

    /// Stops every process of the replica where it is: connections stay open, and nobody answers.
    pub fn freeze(&self) {
        let (server, children) = self.pids();
        signal("-STOP", &[&[server], children.as_slice()].concat());
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        if self.supervisor.is_some() {
            let (server, children) = self.pids();
            signal("-CONT", &[&[server], children.as_slice()].concat());
        }
    }

    /// The replica's first process and its children.
    fn pids(&self) -> (String, Vec<String>) {
        let file = std::fs::read_to_string(self.cluster.join("postmaster.pid")).expect("the replica runs");
        let server = file.lines().next().unwrap().trim().to_owned();
        let processes = Command::new("ps").args(["-A", "-o", "pid=", "-o", "ppid="]).output().unwrap().stdout;
        let children = String::from_utf8(processes)
            .unwrap()
            .lines()
            .filter_map(|line| line.split_whitespace().collect::<Vec<_>>().try_into().ok())
            .filter(|[_, parent]: &[&str; 2]| *parent == server)
            .map(|[pid, _]| pid.to_owned())
            .collect();
        (server, children)
    }

    /// Holds the replica at the state it shows.
    pub async fn pause(&self) {
        let replica = self.replica().await;
        replica.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
        until("replay is paused", async || {
            replica.query_one("SELECT pg_get_wal_replay_pause_state()", &[]).await.unwrap().get::<_, &str>(0)
                == "paused"
        })
        .await;
    }

    /// Lets it follow the primary again.
    pub async fn resume(&self) {
        self.replica().await.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
    }

    /// Waits until the replica has what the primary has now.
    pub async fn catch_up(&self) {
        let primary = connect(self.primary.url()).await;
        let end: String = primary.query_one("SELECT pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
        let replica = self.replica().await;
        let reached = format!("SELECT COALESCE(pg_last_wal_replay_lsn() >= '{end}'::pg_lsn, false)");
        until("the replica catches up", async || replica.query_one(&reached, &[]).await.unwrap().get(0)).await;
    }
}

impl Pair {
    /// Waits until the replica holds a table as a transaction of the primary does.
    pub async fn replica_holds_a_lock(&self) {
        let replica = self.replica().await;
        // The primary sends it as soon as it writes its log, without waiting for the end of the transaction.
        let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock'";
        until("the replica holds the lock", async || replica.query_one(held, &[]).await.unwrap().get::<_, i64>(0) > 0)
            .await;
    }
}

fn signal(signal: &str, pids: &[String]) {
    // One that has ended meanwhile is no matter.
    Command::new("kill").arg(signal).args(pids).stderr(Stdio::null()).status().unwrap();
}
