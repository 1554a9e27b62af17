//! Why a private Postgres does not run, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Why a private Postgres could not be started, or did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// No server programs in any of the usual places.
    #[error(
        "PostgreSQL 15 or newer is not installed: its programs initdb and postgres were not found. Debian/Ubuntu: apt-get \
         install postgresql; Fedora: dnf install postgresql-server; macOS: brew install postgresql@17; Arch: pacman -S \
         postgresql"
    )]
    NotInstalled,
    /// Only programs of another major version, which cannot open the cluster.
    #[error(
        "the data was made by PostgreSQL {made_by}, but only {found:?} is installed: install {made_by}, or use another \
         data directory"
    )]
    OtherVersion {
        /// Major version that made the cluster.
        made_by: u32,
        /// Major versions found on this machine.
        found: Vec<u32>,
    },
    /// Root has no account to step down to.
    #[error("PostgreSQL does not run as root, and this machine has neither the user `postgres` nor `nobody`")]
    NoUnprivilegedUser,
    /// Another process uses this data directory.
    #[error("PostgreSQL is already running in {}", .0.display())]
    AlreadyRunning(PathBuf),
    /// A file or directory could not be used.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was attempted, as a verb.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The server or one of its programs ended early, or did not get ready in time.
    #[error("PostgreSQL {what}. The last lines of {}:\n{tail}", log.display())]
    Failed {
        /// What happened.
        what: String,
        /// The server's log.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
}

pub(super) type Result<T> = std::result::Result<T, EmbeddedError>;

/// Puts the path, which an [`io::Error`] lacks, into the error.
pub(super) fn on<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> EmbeddedError + 'a {
    move |source| EmbeddedError::Io { doing, path: path.to_owned(), source }
}
