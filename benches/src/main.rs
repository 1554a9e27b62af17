//! `make bench`: endpoint-stats measured beside its limits and beside the plain way, in one run on one machine.
//!
//! Absolute figures on a shared machine mean little; ratios of one run do. So whatever is measured is measured in turns with
//! what stands beside it, several times over, and told as the median with its spread. Nothing is turned off that a user
//! would run with: Postgres has its defaults, `fsync` and `synchronous_commit` included; the service asks for keys, limits
//! rates (at their highest setting), logs at `info`, uses Redis and runs its jobs.
//!
//! | module | holds |
//! |---|---|
//! | `machine` | what it is measured on |
//! | `programs` | running other programs and taking their word |
//! | `servers` | Postgres, Redis, the service: begun here, ended here |
//! | `bare` | an actix handler that does nothing but send bytes |
//! | `load` | wrk |
//! | `traffic` | made-up requests: as records, as lines, as rows |
//! | `plain` | the schema and the statements of a plain service |
//! | `history` | months of rollups |
//! | `figures` | medians, spreads, how they are written |
//! | `table` | what came out |
//! | `rows` | each row of the table |

mod bare;
mod figures;
mod history;
mod load;
mod machine;
mod plain;
mod programs;
mod rows;
mod servers;
mod table;
mod traffic;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use rows::Bench;
use table::Table;

/// Measure endpoint-stats beside its limits and beside the plain way
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// One short round of everything that needs no long history; prints the table and writes nothing
    #[arg(long)]
    quick: bool,
    /// Only these rows, such as 1,3 (what they build on is prepared all the same); prints and writes nothing
    #[arg(long, value_delimiter = ',')]
    only: Vec<u8>,
    /// The program to measure [default: the one beside this one]
    #[arg(long)]
    program: Option<PathBuf>,
    /// Where the table goes
    #[arg(long, default_value = "benches/RESULTS.md")]
    results: PathBuf,
    /// The page that shows the table, too
    #[arg(long, default_value = "README.md")]
    page: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Serve one answer with actix alone (the program calls itself so)
    BareActix(bare::BareActix),
}

/// How long and how often is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Rounds of whatever is measured in turns.
    pub(crate) rounds: usize,
    /// Of load, whose beginning is not counted.
    pub(crate) load: Duration,
    /// Of each of the many questions.
    pub(crate) question: Duration,
    /// Rows of the plain table that questions are asked of.
    pub(crate) plain_rows: u64,
    /// Lines of the access log.
    pub(crate) log_lines: usize,
    /// Minutes of requests whose bytes on disk are counted.
    pub(crate) disk_minutes: u64,
    /// Days of history, one after the other; the first is what all but growth is measured with.
    pub(crate) history_days: &'static [u32],
}

impl Pace {
    const FULL: Self = Self {
        rounds: 3,
        load: Duration::from_secs(4),
        question: Duration::from_secs(1),
        plain_rows: 5_000_000,
        log_lines: 1_000_000,
        disk_minutes: 20,
        history_days: &[30, 120, 480],
    };
    const QUICK: Self = Self {
        rounds: 1,
        load: Duration::from_secs(2),
        question: Duration::from_secs(1),
        plain_rows: 1_000_000,
        log_lines: 200_000,
        disk_minutes: 5,
        history_days: &[30],
    };
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Some(Command::BareActix(bare)) => bare.run(),
        None => measure(cli),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says what is being done, and how long after the start.
pub(crate) fn progress(what: &str) {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    eprintln!("{:5.0} s  {what}", BEGAN.get_or_init(Instant::now).elapsed().as_secs_f64());
}

#[tokio::main]
async fn measure(cli: Cli) -> Result<()> {
    let began = Instant::now();
    progress("preparing");
    let pace = if cli.quick { Pace::QUICK } else { Pace::FULL };
    let mut table = Table::new(machine::Machine::look()?);
    let bench = Bench::begin(pace, cli.program, cli.only.clone()).await.context("preparing")?;
    rows::all(&bench, &mut table).await?;
    bench.end().await?;
    table.took(began.elapsed());
    let text = table.to_string();
    println!("{text}");
    if !cli.quick && cli.only.is_empty() {
        std::fs::write(&cli.results, text).with_context(|| format!("writing {}", cli.results.display()))?;
        let page = std::fs::read_to_string(&cli.page).with_context(|| format!("reading {}", cli.page.display()))?;
        if let Some(page) = table::within(&page, &table.lines()) {
            std::fs::write(&cli.page, page).with_context(|| format!("writing {}", cli.page.display()))?;
        }
    }
    Ok(())
}
