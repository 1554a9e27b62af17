//! `job`: maintenance, seen and run by hand.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::watch;

use super::table::{self, Column, GAP, line, shortened};
use super::top::grouped;
use super::{printable, signals};
use crate::cache::{Cache, Namespace};
use crate::config::{CacheOptions, DataOptions, DatabaseOptions, MaintenanceOptions};
use crate::domain::Clock;
use crate::jobs::{Begun, Ended, Job, JobReport, Jobs, JobsConfig, NoSuchJob, Progress, Retention, RunReport};
use crate::store::{Outcome, Store, schema_version};

/// How often a run that nobody watches in a terminal says how far it is, unless it begins with something else.
const SAID_EVERY: Duration = Duration::from_secs(5);

/// The columns that go where a terminal is too narrow, in this order, until the others fit.
const DROPPED_FIRST: [&str; 4] = ["ROWS", "TOOK", "SCHEDULE", "LAST"];

/// The least that is left of an error before columns go.
const ERROR_LEAST: usize = 16;

#[derive(Args)]
pub(super) struct JobCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print each job, when it is due, and how its last run went
    List(Box<List>),
    /// Run a job now, under the lock that keeps replicas from running it twice
    ///
    /// Retention removes what the service no longer keeps: what it was started with holds, whatever is set here.
    Run(Box<Run>),
}

/// The form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    Table,
    Json,
}

#[derive(Args)]
struct List {
    /// Form of the output
    #[arg(long, default_value = "table", value_name = "FORM")]
    format: OutputFormat,

    #[command(flatten)]
    database: DatabaseOptions,
    #[command(flatten)]
    maintenance: MaintenanceOptions,
}

#[derive(Args)]
struct Run {
    /// Name of the job, as `job list` prints it
    #[arg(value_parser = job, value_name = "NAME")]
    name: Job,

    #[command(flatten)]
    database: DatabaseOptions,
    #[command(flatten)]
    cache: CacheOptions,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    maintenance: MaintenanceOptions,
}

fn job(name: &str) -> Result<Job, String> {
    name.parse().map_err(|error: NoSuchJob| error.to_string())
}

impl JobCommand {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::List(command) => command.run().await,
            Command::Run(command) => command.run().await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let store = Arc::new(Store::new(&self.database.store()?)?);
        // Nothing is removed here, so there is nothing to know of how long things are kept.
        let kept = Retention { raw: None, minutes: None, hours: None };
        let config = JobsConfig { schedules: self.maintenance.schedules(), ..JobsConfig::new(kept) };
        let jobs = Jobs::new(store, Clock::system(), config);
        jobs.learn().await?;
        let answer = jobs.report().await?;
        let mut text = match self.format {
            OutputFormat::Table => table(&answer.jobs, table::width()).into_bytes(),
            OutputFormat::Json => serde_json::to_vec(&answer)?,
        };
        if self.format == OutputFormat::Json {
            text.push(b'\n');
        }
        std::io::stdout().write_all(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Run {
    async fn run(self) -> anyhow::Result<ExitCode> {
        // Heard from the beginning: whoever is told to stop ends what was begun.
        let (stop, signalled) = signals(|| {})?;
        let job = self.name;
        let config = self.maintenance.jobs(&self.data, None)?;
        let store = Arc::new(Store::new(&self.database.store()?)?);
        let jobs = Jobs::new(Arc::clone(&store), Clock::system(), config);
        jobs.learn().await?;
        let namespace = Namespace::new(schema_version(), &store.installation());
        let jobs = jobs.with_cache(Arc::new(Cache::new(&self.cache.cache(), namespace)?));
        let Begun::Won(run) = jobs.begin(job, true).await? else {
            anyhow::bail!("{job} is running already; `endpoint-stats job list` says since when");
        };
        let (progress, told) = watch::channel(Progress::default());
        let shown = tokio::spawn(show(job, told));
        let ended = run.perform(&stop, Some(progress)).await;
        // It ends with the sender, which is gone with the run.
        shown.await?;
        match ended.ending.outcome {
            Outcome::Succeeded => {
                writeln!(std::io::stdout(), "{}", sentence(job, &ended))?;
                Ok(ExitCode::SUCCESS)
            }
            outcome => {
                eprintln!("{}", sentence(job, &ended));
                let interrupted = (outcome == Outcome::Interrupted).then(|| signalled.get().copied()).flatten();
                Ok(interrupted.map_or(ExitCode::FAILURE, ExitCode::from))
            }
        }
    }
}

/// Shows on standard error how far a run is, until its end: in place where that is a terminal, in lines where it is not.
async fn show(job: Job, mut told: watch::Receiver<Progress>) {
    let spinner = std::io::stderr().is_terminal().then(|| spinner(job));
    let mut said: Option<(String, Instant)> = None;
    loop {
        let Progress { rows, at } = told.borrow_and_update().clone();
        let how_far = if at.is_empty() {
            "begun".to_owned()
        } else {
            format!("{}, {} {}", printable(&at), grouped(rows), job.rows_are())
        };
        match &spinner {
            Some(spinner) => spinner.set_message(how_far),
            // What it is at is told when it changes; how many rows, now and then.
            None if said.as_ref().is_none_or(|(what, when)| *what != at || when.elapsed() >= SAID_EVERY) => {
                eprintln!("{job}: {how_far}");
                said = Some((at, Instant::now()));
            }
            None => {}
        }
        if told.changed().await.is_err() {
            break;
        }
    }
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
}

fn spinner(job: Job) -> ProgressBar {
    let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    // The template is a constant, and a spinner without style would do.
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: {wide_msg} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.set_prefix(job.name());
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// How a run ended, for people.
fn sentence(job: Job, ended: &Ended) -> String {
    let ending = &ended.ending;
    let (rows, rows_are, took) = (grouped(ending.rows), job.rows_are(), length(ending.took));
    match ending.outcome {
        Outcome::Succeeded => format!("{job}: succeeded, {rows} {rows_are} in {took}"),
        Outcome::Interrupted => {
            format!("{job}: interrupted after {took}, {rows} {rows_are}; the next run goes on from there")
        }
        outcome => {
            let why = ending.error.as_deref().map(printable).unwrap_or_default();
            format!("{job}: {} after {took}, {rows} {rows_are}: {why}", outcome.as_str())
        }
    }
}

/// The jobs as lines of at most `width` columns of a terminal.
fn table(jobs: &[JobReport], width: usize) -> String {
    let mut columns = columns(jobs);
    let is_error = |column: &&mut Column| column.name == "ERROR";
    let wanted = |columns: &[Column]| {
        let widths = columns.iter().map(|column| match column.name {
            "ERROR" => column.width().min(ERROR_LEAST),
            _ => column.width(),
        });
        widths.sum::<usize>() + GAP * (columns.len() - 1)
    };
    for name in DROPPED_FIRST {
        if wanted(&columns) <= width {
            break;
        }
        columns.retain(|column| column.name != name);
    }
    let others: usize = columns.iter().filter(|column| column.name != "ERROR").map(|column| column.width() + GAP).sum();
    let room = width.saturating_sub(others).max(ERROR_LEAST);
    for column in columns.iter_mut().filter(is_error) {
        column.cells.iter_mut().for_each(|cell| *cell = shortened(cell, room));
    }
    let head = line(&columns, |column| column.name);
    (0..jobs.len()).fold(head, |text, row| text + &line(&columns, |column| &column.cells[row]))
}

fn columns(jobs: &[JobReport]) -> Vec<Column> {
    let column =
        |name, left, cell: &dyn Fn(&JobReport) -> String| Column { name, left, cells: jobs.iter().map(cell).collect() };
    let of_last = |job: &JobReport, cell: &dyn Fn(&RunReport) -> Option<String>| {
        job.last.as_ref().and_then(cell).unwrap_or_else(|| "–".to_owned())
    };
    vec![
        column("JOB", true, &|job| job.name.to_owned()),
        column("SCHEDULE", true, &|job| job.schedule.clone()),
        column("NEXT", true, &|job| next(job).map_or_else(|| "–".to_owned(), instant)),
        column("LAST", true, &|job| of_last(job, &|run| Some(instant(run.started_at)))),
        column("OUTCOME", true, &|job| of_last(job, &|run| Some(loud(run.outcome)))),
        column("TOOK", false, &|job| of_last(job, &|run| run.duration_ms.map(Duration::from_millis).map(length))),
        column("ROWS", false, &|job| of_last(job, &|run| run.rows.map(grouped))),
        // A newline in it would begin a row of its own.
        column("ERROR", true, &|job| {
            let error = job.last.as_ref().and_then(|run| run.error.as_deref()).unwrap_or_default();
            printable(&error.split_whitespace().collect::<Vec<_>>().join(" "))
        }),
    ]
}

/// When it is tried next: a run that failed may be tried again before the next slot.
fn next(job: &JobReport) -> Option<DateTime<Utc>> {
    let retry = job.last.as_ref().and_then(|run| run.retry_at);
    [job.next_slot, retry].into_iter().flatten().min()
}

/// To be seen among nine lines that are well.
fn loud(outcome: &str) -> String {
    if outcome == Outcome::Failed.as_str() { outcome.to_uppercase() } else { outcome.to_owned() }
}

fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%MZ").to_string()
}

/// A length of time as exact as it is good for.
fn length(time: Duration) -> String {
    match time.as_secs() {
        0 if time.as_millis() < 100 => format!("{} ms", time.as_millis()),
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr as _;

    use super::*;
    use crate::jobs::JobState;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn reports() -> Vec<JobReport> {
        let report = |job: Job, next: Option<&str>, last| JobReport {
            name: job.name(),
            does: job.does(),
            schedule: job.default_schedule().to_owned(),
            next_slot: next.map(at),
            state: JobState::Idle,
            last,
        };
        let run = |outcome: Outcome, error: Option<&str>, retry_at: Option<&str>| RunReport {
            slot: at("2026-11-21T10:20:30Z"),
            outcome: outcome.as_str(),
            started_at: at("2026-11-21T10:20:31Z"),
            duration_ms: Some(1_234),
            rows: Some(56_789),
            rows_are: "counts moved",
            error: error.map(str::to_owned),
            attempts: 1,
            by_hand: false,
            retry_at: retry_at.map(at),
        };
        let why =
            "Postgres refused a statement:\n\u{1b}[2Jcanceling statement due to lock timeout on a table of a long name";
        vec![
            report(Job::Fold, Some("2026-11-21T10:20:40Z"), Some(run(Outcome::Succeeded, None, None))),
            report(
                Job::Retention,
                Some("2026-11-22T01:00:00Z"),
                Some(run(Outcome::Failed, Some(why), Some("2026-11-21T10:24:31Z"))),
            ),
            report(Job::Verify, None, None),
        ]
    }

    #[test]
    fn each_job_is_a_line_and_one_that_failed_is_seen() {
        let text = table(&reports(), 400);
        let lines: Vec<&str> = text.lines().collect();
        let words: Vec<&str> = lines[0].split_whitespace().collect();
        assert_eq!(words, ["JOB", "SCHEDULE", "NEXT", "LAST", "OUTCOME", "TOOK", "ROWS", "ERROR"]);
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[1].contains("2026-11-21 10:20Z  succeeded  1.2 s  56,789"), "{text}");
        let failed = "retention  0 1 * * *  2026-11-21 10:24Z  2026-11-21 10:20Z  FAILED";
        assert!(lines[2].starts_with(failed), "tried again before its next slot: {text}");
        assert!(lines[2].ends_with("a long name") && lines[2].contains('\u{fffd}'), "{text}");
        let never: Vec<&str> = lines[3].split_whitespace().collect();
        assert_eq!(never, ["verify", "0", "5", "*", "*", "*", "–", "–", "–", "–", "–"], "{text}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_a_failure_stays_in_it() {
        for width in [60, 80, 100, 120, 200] {
            let text = table(&reports(), width);
            assert!(text.lines().all(|line| line.width() <= width), "{width}:\n{text}");
            assert!(text.contains("FAILED") && text.contains("Postgres"), "{width}:\n{text}");
            assert_eq!(text.lines().count(), 4, "{text}");
        }
    }

    #[test]
    fn a_length_of_time_is_told_as_exactly_as_it_is_good_for() {
        let told = [12, 234, 59_949, 61_000, 3_720_000].map(|ms| length(Duration::from_millis(ms)));
        assert_eq!(told, ["12 ms", "0.2 s", "59.9 s", "1 min 1 s", "1 h 2 min"]);
    }
}
