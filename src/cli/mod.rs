//! The command line: `endpoint-stats <command>`.
//!
//! Owns: options, output for people, exit codes (0 well, 1 an error, 2 wrong use; `verify` 1 for a difference, `keys
//! revoke` 1 where there is no such key, `job run` 1 for a job that failed or is running already, 130 and 143 for one that
//! Ctrl-C or SIGTERM has interrupted). Uses: `app` and what it is made of.

mod demo;
mod import;
mod job;
mod keys;
mod serve;
mod table;
mod top;
mod verify;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use clap::{Args, Parser, Subcommand};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::fmt::writer::MakeWriterExt as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::config::DatabaseOptions;
use crate::logs::LogFiles;
use crate::store;

/// Which endpoints are the busiest, the slowest, the most failing: exact rankings over an ordinary Postgres
///
/// Options that show [env: NAME] can also be set by that environment variable.
#[derive(Parser)]
#[command(name = "endpoint-stats", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring the schema up to date, then serve the API, take in records and run maintenance
    Serve(Box<serve::ServeCommand>),
    /// Bring the schema up to date, and nothing else
    Migrate(MigrateCommand),
    /// Take in access logs (nginx, Apache, LTSV, JSON lines) or NDJSON records; safe to run again on the same file
    Import(Box<import::ImportCommand>),
    /// Print the top endpoints
    Top(Box<top::TopCommand>),
    /// Compare the rollups with the raw requests; silent where they agree, exit code 1 where they do not
    Verify(verify::VerifyCommand),
    /// See how maintenance goes, and run a job of it now
    Job(job::JobCommand),
    /// Make, list and revoke API keys
    Keys(keys::KeysCommand),
    /// Everything at once, with a Postgres of its own and a month of made-up traffic
    Demo(demo::DemoCommand),
}

#[derive(Args)]
struct MigrateCommand {
    #[command(flatten)]
    database: DatabaseOptions,
}

/// Runs the command line.
pub async fn run() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Serve(command) => command.run().await.map(|()| ExitCode::SUCCESS),
        Command::Migrate(command) => migrate(command).await.map(|()| ExitCode::SUCCESS),
        Command::Import(command) => command.run().await.map(|()| ExitCode::SUCCESS),
        Command::Top(command) => command.run().await.map(|()| ExitCode::SUCCESS),
        Command::Verify(command) => command.run().await,
        Command::Job(command) => command.run().await,
        Command::Keys(command) => command.run().await,
        Command::Demo(command) => {
            log_to_stdout("warn,actix_http=off");
            command.run().await.map(|()| ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        // Whoever read our output has seen enough (`… | head`): that is no failure.
        if error.chain().any(is_closed_pipe) {
            return ExitCode::SUCCESS;
        }
        eprintln!("endpoint-stats: {}", told(&error));
        ExitCode::FAILURE
    })
}

/// An error and its causes on one line. Some name their cause themselves; it is not said again.
fn told(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |mut told, cause| {
        let cause = cause.to_string();
        if !told.contains(&cause) {
            told.push_str(if told.is_empty() { "" } else { ": " });
            told.push_str(&cause);
        }
        told
    })
}

fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

async fn migrate(command: MigrateCommand) -> anyhow::Result<()> {
    let applied = store::migrate(command.database.url()?).await?;
    for migration in &applied {
        println!("{migration}");
    }
    if applied.is_empty() {
        println!("The schema is up to date.");
    }
    Ok(())
}

/// Log events: a line of JSON each, or text for people in a terminal. `RUST_LOG` chooses which.
fn log_to_stdout(level: &str) {
    let builder = tracing_subscriber::fmt().with_env_filter(chosen(level));
    if std::io::stdout().is_terminal() { builder.init() } else { builder.json().flatten_event(true).init() }
}

/// Log events to files, a line of JSON each. Stdout still has those of the module `told`, so that whoever started the service
/// sees where it listens, and where to look for the rest.
fn log_to_files(level: &str, files: &LogFiles, told: &'static str) {
    let to_files = layer().json().flatten_event(true).with_writer(files.writer());
    // Chosen by the writer, not by a filter of the layer: such filters lose an event now and then where, as in actix, it is
    // only asked whether another would be logged.
    let stdout = std::io::stdout.with_filter(move |event| event.target() == told);
    let to_stdout = layer().with_writer(stdout);
    let to_stdout =
        if std::io::stdout().is_terminal() { to_stdout.boxed() } else { to_stdout.json().flatten_event(true).boxed() };
    tracing_subscriber::registry().with(to_stdout).with(to_files).with(chosen(level)).init();
}

fn chosen(level: &str) -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level))
}

/// Cancelled by SIGTERM or Ctrl-C; a second one does what is left to do and ends the process at once.
fn stop_on_signal(at_once: impl FnOnce() + Send + 'static) -> anyhow::Result<CancellationToken> {
    Ok(signals(at_once)?.0)
}

/// The same, and the exit code by which the first of them is told, once it has come.
fn signals(at_once: impl FnOnce() + Send + 'static) -> anyhow::Result<(CancellationToken, Arc<OnceLock<u8>>)> {
    use tokio::signal::unix::{SignalKind, signal};
    let (stop, first) = (CancellationToken::new(), Arc::new(OnceLock::new()));
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (told, code) = (stop.clone(), Arc::clone(&first));
    tokio::spawn(async move {
        let mut next = async || tokio::select! { _ = terminate.recv() => 143, _ = interrupt.recv() => 130 };
        // Set once: nobody else has it to set.
        let _ = code.set(next().await);
        told.cancel();
        let code = next().await;
        tracing::info!("told again to stop, and ends at once");
        at_once();
        std::process::exit(code.into());
    });
    Ok((stop, first))
}

/// A client's text without what a terminal would obey: control characters, and those that turn the direction of writing.
fn printable(text: &str) -> String {
    let obeyed = |character: char| {
        character.is_control()
            || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|character| if obeyed(character) { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_not_printed() {
        assert_eq!(printable("/a\u{1b}[2J\n\u{202e}b"), "/a\u{fffd}[2J\u{fffd}\u{fffd}b");
    }

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("no route").context("not connected: no route").context("top");
        assert_eq!(told(&error), "top: not connected: no route");
    }
}
