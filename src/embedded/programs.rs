//! Where the Postgres server's programs are, and as whom they run.
//!
//! Distributions keep `initdb` and `postgres` off the `PATH`, so the usual places are looked through. Which version is
//! taken is decided here; what is done with it is not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::EmbeddedError;

/// The oldest major version that the service's SQL is written for.
const OLDEST: u32 = 15;

/// An account that Postgres runs as when the service itself runs as root, which Postgres refuses to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl User {
    /// `None` for an ordinary user, who keeps their own account; for root, the account to step down to.
    pub(super) fn to_step_down_to() -> Result<Option<Self>, EmbeddedError> {
        // std has no way to ask for one's own uid; `id` is in POSIX and also knows accounts outside /etc/passwd.
        if id(&["-u"]).ok_or(EmbeddedError::NoUnprivilegedUser)? != 0 {
            return Ok(None);
        }
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| Some(Self { uid: id(&["-u", name])?, gid: id(&["-g", name])? }))
            .filter(|user| user.uid != 0)
            .map(Some)
            .ok_or(EmbeddedError::NoUnprivilegedUser)
    }

    /// Whether this account gets into `dir`: asked of the kernel, by trying.
    pub(super) fn reaches(self, dir: &Path) -> bool {
        command("sh", Some(self))
            .args(["-c", r#"cd "$1""#, "sh"])
            .arg(dir)
            .output()
            .is_ok_and(|out| out.status.success())
    }
}

fn id(args: &[&str]) -> Option<u32> {
    let out = Command::new("id").args(args).output().ok().filter(|out| out.status.success())?;
    String::from_utf8_lossy(&out.stdout).trim().parse().ok()
}

/// A command that runs as `user`, in English, untouched by the `PG…` variables of whoever started the service.
pub(super) fn command(program: impl AsRef<std::ffi::OsStr>, user: Option<User>) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
        command.env_remove(name);
    }
    // `/`: the other account may not be able to enter the current directory.
    command.env("LC_ALL", "C").current_dir("/").stdin(Stdio::null());
    if let Some(user) = user {
        // std drops root's supplementary groups along with the uid.
        command.uid(user.uid).gid(user.gid);
    }
    command
}

/// A folder with `initdb` and `postgres`.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    dir: PathBuf,
    major: u32,
}

impl Programs {
    /// The first usable ones; `made_by` is the major version of an existing cluster, which only the same can open.
    pub(super) fn find(user: Option<User>, made_by: Option<u32>) -> Result<Self, EmbeddedError> {
        let mut found = Vec::new();
        for dir in places() {
            let Some(programs) = Self::in_dir(dir, user) else { continue };
            if programs.major >= OLDEST && made_by.is_none_or(|major| major == programs.major) {
                return Ok(programs);
            }
            found.push(programs.major);
        }
        match made_by {
            Some(made_by) if !found.is_empty() => Err(EmbeddedError::OtherVersion { made_by, found }),
            _ => Err(EmbeddedError::NotInstalled),
        }
    }

    /// Asked as the user who is to run them: a place they cannot reach is no use.
    fn in_dir(dir: PathBuf, user: Option<User>) -> Option<Self> {
        if !dir.join("initdb").is_file() {
            return None;
        }
        let out = command(dir.join("postgres"), user).arg("--version").output().ok()?;
        // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "postgres (PostgreSQL) 19beta1"
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let version = text.split_once("(PostgreSQL) ")?.1;
        let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
        Some(Self { dir, major: version[..digits].parse().ok()? })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Places to look, in order of preference: what the person set up (`PATH`, `pg_config`) before what packages do.
fn places() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect();
    if let Ok(out) = Command::new("pg_config").arg("--bindir").output()
        && let Ok(dir) = String::from_utf8(out.stdout)
        && out.status.success()
    {
        places.push(PathBuf::from(dir.trim()));
    }
    // Debian and Ubuntu; Homebrew on Apple silicon and on Intel; the PostgreSQL project's own packages for Fedora.
    for (parent, prefix) in [
        ("/usr/lib/postgresql", ""),
        ("/opt/homebrew/opt", "postgresql@"),
        ("/usr/local/opt", "postgresql@"),
        ("/usr", "pgsql-"),
    ] {
        let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(parent)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let major = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
                Some((major, entry.path().join("bin")))
            })
            .collect();
        versions.sort_by(|a, b| b.cmp(a));
        places.extend(versions.into_iter().map(|(_, bin)| bin));
    }
    places
}
