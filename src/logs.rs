//! Log files: one a day, and the removal of old ones.
//!
//! Owns: what the files are called, how they are written, which of them are old. Uses: nothing of this crate.
//!
//! Properties:
//! - Nobody waits for the disk: a thread of its own writes, and a line that finds the queue full is lost.
//! - A disk that is full costs the lines of that time and nothing else. Those before and after stay whole lines, but for the
//!   one that was cut off; stderr says when it began and how many lines are missing.
//! - The name says the day, in UTC, and what is removed is told by its name alone, exactly in our form. No other files are
//!   written, so there are no leftovers of half-written ones.
//! - Replicas on one machine may share a directory: each line is appended in one piece.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{RollingFileAppender, Rotation};

/// A file is called `endpoint-stats.2026-11-21.log`.
const BEGINS: &str = "endpoint-stats";
const ENDS: &str = "log";

/// Lines that may wait for the disk: some 3 MB of usual ones. The library's own number would let a hung disk take a gigabyte.
const WAITING_LINES: usize = 10_000;

/// Log files cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("log files cannot be written in {} (LOG_DIR): {reason}", dir.display())]
pub struct UnwritableLogDir {
    dir: PathBuf,
    reason: String,
}

/// The log files of a directory. Clones write to the same.
#[derive(Clone)]
pub struct LogFiles {
    lines: NonBlocking,
    lost: ErrorCounter,
    /// Until it is closed.
    writing: Arc<Mutex<Option<WorkerGuard>>>,
}

impl LogFiles {
    /// Opens today's file in `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// [`UnwritableLogDir`].
    pub fn open(dir: &Path) -> Result<Self, UnwritableLogDir> {
        let unwritable = |reason: String| UnwritableLogDir { dir: dir.to_owned(), reason };
        if let Err(error) = fs::create_dir_all(dir) {
            // Of a file in its place the system says that it exists.
            let is_file = error.kind() == io::ErrorKind::AlreadyExists;
            return Err(unwritable(if is_file { "it is not a directory".to_owned() } else { error.to_string() }));
        }
        let builder = RollingFileAppender::builder().rotation(Rotation::DAILY);
        let file = builder.filename_prefix(BEGINS).filename_suffix(ENDS).build(dir).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            unwritable(cause.unwrap_or_else(|| error.to_string()))
        })?;
        let queue = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES);
        let (lines, writing) = queue.thread_name("log").finish(WholeLines::new(file));
        Ok(Self { lost: lines.error_counter(), lines, writing: Arc::new(Mutex::new(Some(writing))) })
    }

    /// Where lines are handed in.
    #[must_use]
    pub fn writer(&self) -> NonBlocking {
        self.lines.clone()
    }

    /// Waits until the lines handed in so far are written, a second at most; later ones are lost.
    pub fn close(&self) {
        drop(self.writing.lock().unwrap_or_else(PoisonError::into_inner).take());
        let lost = self.lost.dropped_lines();
        if lost > 0 {
            tell(&format!("the disk did not keep up with the log; lines missing: {lost}"));
        }
    }
}

/// Tells people what cannot go into the log. Where nobody listens, that is no failure.
fn tell(what: &str) {
    let _ = writeln!(io::stderr(), "endpoint-stats: {what}");
}

/// Writes lines, and never fails: what cannot be written is lost, and the next line begins at the beginning of one.
struct WholeLines<W> {
    file: W,
    /// Whether what was written last ends within a line.
    torn: bool,
    /// Lines lost in a row.
    lost: u64,
}

impl<W: Write> WholeLines<W> {
    fn new(file: W) -> Self {
        Self { file, torn: false, lost: 0 }
    }

    fn put(&mut self, mut line: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        while !line.is_empty() {
            match self.file.write(line) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.torn = written < line.len();
                    line = &line[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<W: Write> Write for WholeLines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.put(line) {
            Ok(()) if self.lost > 0 => {
                tell(&format!("the log is written again; lines missing: {}", self.lost));
                self.lost = 0;
            }
            Ok(()) => {}
            Err(error) => {
                if self.lost == 0 {
                    tell(&format!("the log cannot be written: {error}"));
                }
                self.lost += 1;
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // A file holds nothing back.
        Ok(())
    }
}

/// Removes the log files in `dir` of days that ended longer than `keep` before `now`, and tells how many there were. `None`
/// keeps all. Today's stays, and whatever is no file, or is called otherwise.
///
/// # Errors
/// Where the directory cannot be read, or, with all others gone, the first of the files that cannot be removed.
pub fn remove_old_log_files(dir: &Path, keep: Option<TimeDelta>, now: DateTime<Utc>) -> io::Result<u64> {
    let horizon = keep.and_then(|keep| now.checked_sub_signed(keep.max(TimeDelta::zero())));
    let Some(horizon) = horizon else { return Ok(0) };
    let named = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"))
    };
    let (mut removed, mut failed) = (0, None);
    for entry in fs::read_dir(dir).map_err(named(dir))? {
        let entry = entry.map_err(named(dir))?;
        let day = entry.file_name().to_str().and_then(day_of);
        // Of a link this is what the link is, not what it points to.
        let is_file = || entry.file_type().is_ok_and(|kind| kind.is_file());
        if day.is_none_or(|day| day >= horizon.date_naive()) || !is_file() {
            continue;
        }
        match fs::remove_file(entry.path()) {
            Ok(()) => removed += 1,
            // Another replica was here first.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => failed = failed.or(Some(named(&entry.path())(error))),
        }
    }
    failed.map_or(Ok(removed), Err)
}

/// The day of which a file with this name has the lines; `None` for any other name.
fn day_of(name: &str) -> Option<NaiveDate> {
    let day = name.strip_prefix(BEGINS)?.strip_prefix('.')?.strip_suffix(ENDS)?.strip_suffix('.')?;
    // Written back, since parsing is not strict: it takes `2026-1-1` too.
    day.parse().ok().filter(|parsed: &NaiveDate| parsed.to_string() == day)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(dir: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn the_name_that_is_written_is_the_name_that_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let before = Utc::now().date_naive();
        let files = LogFiles::open(&dir.path().join("a/b")).unwrap();
        files.writer().write_all(b"{}\n").unwrap();
        files.close();
        let names = names(&dir.path().join("a/b"));
        assert_eq!(names.len(), 1, "{names:?}");
        let name = names.first().unwrap();
        let day = day_of(name).unwrap();
        assert!((before..=Utc::now().date_naive()).contains(&day), "{name}");
        assert_eq!(fs::read(dir.path().join("a/b").join(name)).unwrap(), b"{}\n");
        assert_eq!(name, &format!("endpoint-stats.{day}.log"));
    }

    #[test]
    fn only_files_in_our_form_and_older_than_the_keep_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::NamedTempFile::new().unwrap();
        let path = |name: &str| dir.path().join(name);
        let old = ["2026-11-06", "2026-11-05", "2026-10-31", "2020-02-29", "1999-12-31"];
        let kept = ["2026-11-07", "2026-11-08", "2026-11-20", "2026-11-21", "2026-11-22", "2031-01-01"];
        for day in old.iter().chain(&kept) {
            fs::write(path(&format!("endpoint-stats.{day}.log")), "{}\n").unwrap();
        }
        let alike = [
            "endpoint-stats.log",
            "endpoint-stats..log",
            "endpoint-stats.2020-01-01",
            "endpoint-stats.2020-01-01.log.gz",
            "endpoint-stats.2020-01-01.log~",
            "endpoint-stats.2020-01-01.LOG",
            "endpoint-stats.2020-01-01.txt",
            "endpoint-stats.2020-1-1.log",
            "endpoint-stats.2020-01-01-05.log",
            "endpoint-stats.2020-02-30.log",
            "endpoint-stats.+2020-01-01.log",
            "endpoint-stats. 2020-01-01.log",
            "endpoint-stats.20200101.log",
            "endpoint-stats-2020-01-01.log",
            "endpoint-stats2020-01-01.log",
            "my-endpoint-stats.2020-01-01.log",
            ".endpoint-stats.2020-01-01.log",
            "Endpoint-Stats.2020-01-01.log",
            "2020-01-01.log",
        ];
        for name in alike {
            fs::write(path(name), "precious").unwrap();
        }
        fs::create_dir(path("endpoint-stats.2020-01-02.log")).unwrap();
        fs::write(path("endpoint-stats.2020-01-02.log/endpoint-stats.2020-01-01.log"), "below").unwrap();
        symlink(elsewhere.path(), path("endpoint-stats.2020-01-03.log")).unwrap();
        symlink("nowhere", path("endpoint-stats.2020-01-04.log")).unwrap();
        symlink(path("endpoint-stats.2020-01-02.log"), path("endpoint-stats.2020-01-05.log")).unwrap();
        let before = names(dir.path());

        let now = at("2026-11-21T10:20:30Z");
        assert_eq!(remove_old_log_files(dir.path(), None, now).unwrap(), 0, "for ever");
        assert_eq!(names(dir.path()), before);
        assert_eq!(remove_old_log_files(dir.path(), Some(TimeDelta::days(14)), now).unwrap(), old.len() as u64);
        let gone: BTreeSet<String> = before.difference(&names(dir.path())).cloned().collect();
        assert_eq!(gone, old.iter().map(|day| format!("endpoint-stats.{day}.log")).collect());
        assert!(
            elsewhere.path().exists() && path("endpoint-stats.2020-01-02.log/endpoint-stats.2020-01-01.log").exists()
        );
        assert_eq!(remove_old_log_files(dir.path(), Some(TimeDelta::days(14)), now).unwrap(), 0, "and again");
    }

    #[test]
    fn a_file_goes_when_its_last_line_is_too_old_and_never_on_its_day() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("endpoint-stats.2026-11-20.log");
        let removed = |keep, now| {
            fs::write(&file, "{}\n").unwrap();
            remove_old_log_files(dir.path(), Some(keep), at(now)).unwrap() == 1
        };
        for (keep, now, expected) in [
            (TimeDelta::days(1), "2026-11-21T23:59:59.999Z", false),
            (TimeDelta::days(1), "2026-11-22T00:00:00Z", true),
            (TimeDelta::hours(12), "2026-11-21T11:59:59Z", false),
            (TimeDelta::hours(12), "2026-11-21T12:00:00Z", true),
            (TimeDelta::seconds(1), "2026-11-20T23:59:59Z", false),
            (TimeDelta::seconds(1), "2026-11-21T00:00:00Z", false),
            (TimeDelta::zero(), "2026-11-20T12:00:00Z", false),
            (TimeDelta::days(-9), "2026-11-20T12:00:00Z", false),
            (TimeDelta::days(1), "2026-11-19T12:00:00Z", false),
            (TimeDelta::MAX, "2026-11-22T00:00:00Z", false),
        ] {
            assert_eq!(removed(keep, now), expected, "{keep} before {now}");
        }
    }

    #[test]
    fn a_directory_that_is_away_is_told_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let away = dir.path().join("away");
        let error = remove_old_log_files(&away, Some(TimeDelta::days(1)), at("2026-11-21T00:00:00Z")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with(away.to_str().unwrap()), "{error}");
        fs::write(&away, "a file").unwrap();
        let error = LogFiles::open(&away).err().unwrap().to_string();
        assert_eq!(
            error,
            format!("log files cannot be written in {} (LOG_DIR): it is not a directory", away.display())
        );
        assert!(LogFiles::open(&away.join("below")).err().unwrap().to_string().contains("Not a directory"));
    }

    /// A disk with room for so many bytes.
    struct Disk {
        held: Vec<u8>,
        room: usize,
    }

    impl Write for &mut Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= taken;
            self.held.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn after_a_full_disk_lines_are_whole_again() {
        for room in 0..=12 {
            let mut disk = Disk { held: Vec::new(), room };
            let mut lines = WholeLines::new(&mut disk);
            for line in [b"{1}\n", b"{2}\n", b"{3}\n"] {
                lines.write_all(line).unwrap();
            }
            lines.file.room = 100;
            lines.write_all(b"{4}\n").unwrap();
            lines.write_all(b"{5}\n").unwrap();
            assert_eq!(lines.lost, 0);
            let told = String::from_utf8(disk.held).unwrap();
            let told: Vec<&str> = told.strip_suffix('\n').unwrap().split('\n').collect();
            let whole = |line: &&&str| line.len() == 3;
            let broken = told.len() - told.iter().filter(whole).count();
            assert!(told.ends_with(&["{4}", "{5}"]), "{told:?}");
            assert!(broken <= 1 && !told.contains(&""), "{told:?}");
        }
    }
}
