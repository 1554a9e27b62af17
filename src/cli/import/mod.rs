//! `import`: access logs and NDJSON, through the same writer as the API.
//!
//! Safe to run again: every piece of a file has an idempotency key made from the file itself (see `chunks`), so a second run,
//! one after a kill, and one on a file that has grown add nothing twice.

mod chunks;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use flate2::read::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::top::grouped;
use crate::access_log::{self, Format, LINES_LOOKED_AT, LogFormat, LogLine};
use crate::config::{DataOptions, DatabaseOptions};
use crate::domain::{AcceptedTimes, Batch, Clock, RecordFields, Target, Timestamp};
use crate::ingest::{Answer, IdempotencyKey, Ingest, IngestError, Parsed, read_ndjson};
use crate::jobs::{Jobs, JobsConfig};
use crate::store::{self, Horizons, Store};
use chunks::{Chunks, Piece};

/// Pieces on their way at once: enough for every flush of the writer.
const PIECES_IN_FLIGHT: usize = 6;

/// How long deltas gather before they are folded: some ten thousand, of which no row is written twice for long.
const FOLD_EVERY: Duration = Duration::from_millis(500);

/// Rejected lines that are printed.
const PRINTED_REJECTS: usize = 10;

#[derive(Args)]
pub(super) struct ImportCommand {
    /// Files to take in, gzip too; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Form of the lines: combined, common, ltsv, json or ndjson; detected from the first lines if left out
    #[arg(long, value_name = "FORM")]
    format: Option<Format>,

    /// The service the requests are counted under, where a line names none
    #[arg(long, value_name = "NAME")]
    service: Option<String>,

    /// Move the whole log so that its last request happens now
    #[arg(long)]
    shift_to_now: bool,

    #[command(flatten)]
    database: DatabaseOptions,
    #[command(flatten)]
    data: DataOptions,
}

/// What came of an import.
#[derive(Debug, Default)]
struct Summary {
    imported: u64,
    already_stored: u64,
    rejected: u64,
    beyond_raw: u64,
    beyond_hours: u64,
    first_rejects: Vec<String>,
}

impl ImportCommand {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let store_config = self.database.store()?;
        store::migrate(&store_config.url).await?;
        let store = Arc::new(Store::new(&store_config)?);
        let clock = Clock::system();
        let jobs = Jobs::new(Arc::clone(&store), clock.clone(), JobsConfig::new(self.data.retention()?));
        jobs.synchronise_as_visitor().await?;
        let stop = CancellationToken::new();
        let (ingest, writer) = Ingest::start(Arc::clone(&store), clock.clone(), self.data.ingest(), stop.clone());
        let ingest = Arc::new(ingest);

        let all_read = CancellationToken::new();
        let folding = tokio::spawn(fold_meanwhile(jobs.clone(), all_read.clone()));
        for file in &self.files {
            let summary = self.import(file, &store, &ingest, &clock).await;
            let summary = summary.with_context(|| file.display().to_string())?;
            self.print(file, &summary);
        }
        stop.cancel();
        writer.await?;
        all_read.cancel();
        folding.await?;
        jobs.fold(&CancellationToken::new()).await?;
        Ok(())
    }

    async fn import(&self, file: &Path, store: &Store, ingest: &Arc<Ingest>, clock: &Clock) -> anyhow::Result<Summary> {
        let bar = progress_bar(file);
        let mut chunks = Chunks::new(open(file, &bar)?, self.service.as_deref());
        let format = match self.format {
            Some(format) => format,
            None => {
                let lines = chunks.first_lines()?;
                let lines = &lines[..lines.len().min(LINES_LOOKED_AT)];
                if lines.is_empty() {
                    return Ok(Summary::default());
                }
                access_log::detect(lines).context("the form of the lines is not known; --format says it")?
            }
        };
        let shift = if self.shift_to_now { self.shift(file, format, clock.now())? } else { TimeDelta::zero() };
        let prefix = chunks.key_prefix()?.to_owned();
        chunks.skip(store.keys_with_prefix(&prefix).await?);

        let reader = Reader { format, service: self.service.clone(), shift };
        let Horizons { raw_since, hours_since, .. } = store.horizons();
        let mut summary = Summary::default();
        let mut lines_read = 0;
        let mut under_way: JoinSet<Submitted> = JoinSet::new();
        loop {
            let piece = tokio::task::block_in_place(|| chunks.next_piece())?;
            let Some(piece) = piece else { break };
            let lines = piece.lines.len() as u64;
            let (key, hash) = (piece.key.clone(), piece.hash);
            let (parsed, rejects) = tokio::task::block_in_place(|| reader.read(&piece, ingest.accepted_times()));
            summary.rejected += parsed.rejected;
            let room = PRINTED_REJECTS.saturating_sub(summary.first_rejects.len());
            summary.first_rejects.extend(rejects.into_iter().take(room));
            for record in parsed.batch.records() {
                summary.beyond_hours += u64::from(hours_since.is_some_and(|since| record.timestamp < since));
                summary.beyond_raw += u64::from(raw_since.is_some_and(|since| record.timestamp < since));
            }
            if under_way.len() >= PIECES_IN_FLIGHT
                && let Some(ended) = under_way.join_next().await
            {
                summary.count(ended)?;
            }
            let accepted = parsed.batch.records().len() as u64;
            if accepted > 0 {
                let ingest = Arc::clone(ingest);
                let key = IdempotencyKey { key, body_hash: hash };
                under_way.spawn(async move { ingest.submit(parsed, Some(key)).await.map(|answer| (answer, accepted)) });
            }
            lines_read += lines;
            bar.set_message(format!("{} lines", grouped(lines_read)));
        }
        while let Some(ended) = under_way.join_next().await {
            summary.count(ended)?;
        }
        summary.already_stored += chunks.already_stored;
        bar.finish_and_clear();
        Ok(summary)
    }

    /// How far the last request of the file lies behind `now`.
    fn shift(&self, file: &Path, format: Format, now: DateTime<Utc>) -> anyhow::Result<TimeDelta> {
        if file == Path::new("-") {
            bail!("--shift-to-now reads the file twice, which standard input cannot be");
        }
        let mut chunks = Chunks::new(open(file, &ProgressBar::hidden())?, None);
        let mut last: Option<DateTime<Utc>> = None;
        while let Some(piece) = chunks.next_piece()? {
            for line in &piece.lines {
                last = last.max(timestamp(format, &line.text));
            }
        }
        Ok(last.map_or(TimeDelta::zero(), |last| now - last))
    }

    fn print(&self, file: &Path, summary: &Summary) {
        let mut line = format!(
            "{}: {} records in, {} rejected",
            file.display(),
            grouped(summary.imported),
            grouped(summary.rejected)
        );
        if summary.already_stored > 0 {
            line.push_str(&format!(", {} lines were in already", grouped(summary.already_stored)));
        }
        println!("{line}");
        for reject in &summary.first_rejects {
            println!("  {reject}");
        }
        let hidden = summary.rejected.saturating_sub(summary.first_rejects.len() as u64);
        if hidden > 0 {
            println!("  … and {} more", grouped(hidden));
        }
        if summary.imported == 0 && summary.first_rejects.iter().any(|reject| reject.contains("days old")) {
            println!("  An old log comes in with INGEST_MAX_AGE=0, or moved to the present with --shift-to-now.");
        }
        if summary.beyond_raw > 0 {
            let kept = span(self.data.retention_raw);
            println!(
                "  {} records are older than {kept} (RETENTION_RAW): counted, but not kept one by one",
                grouped(summary.beyond_raw)
            );
        }
        if summary.beyond_hours > 0 {
            let kept = span(self.data.retention_hours);
            println!(
                "  {} records are older than {kept} (RETENTION_HOURS): taken, but no longer told, and deleted by the next retention",
                grouped(summary.beyond_hours)
            );
        }
    }
}

/// Folds what has come in while the rest is read. A log has nearly as many minutes of endpoints as lines, so that to fold
/// them takes Postgres as long as to store the records: one after the other would take twice as long, with a processor idle.
async fn fold_meanwhile(jobs: Jobs, all_read: CancellationToken) {
    while all_read.run_until_cancelled(tokio::time::sleep(FOLD_EVERY)).await.is_some() {
        if let Err(error) = jobs.fold(&all_read).await {
            // What is not folded counts all the same, and the fold at the end says what is wrong.
            tracing::debug!(error = %error, "could not fold yet");
        }
    }
}

/// A piece that was submitted: the answer to it, and how many records it had.
type Submitted = Result<(Answer, u64), IngestError>;

impl Summary {
    fn count(&mut self, ended: Result<Submitted, JoinError>) -> anyhow::Result<()> {
        let (answer, records) = ended??;
        if answer.replayed {
            self.already_stored += records;
        } else {
            self.imported += records;
        }
        Ok(())
    }
}

/// Turns lines into records.
struct Reader {
    format: Format,
    service: Option<String>,
    shift: TimeDelta,
}

impl Reader {
    /// The records of a piece, and a line of text for each that is rejected.
    fn read(&self, piece: &Piece, accepted: AcceptedTimes) -> (Parsed, Vec<String>) {
        match self.format {
            Format::Ndjson => self.read_records(piece, accepted),
            Format::Log(format) => self.read_log(piece, format, accepted),
        }
    }

    fn read_log(&self, piece: &Piece, format: LogFormat, accepted: AcceptedTimes) -> (Parsed, Vec<String>) {
        let mut parsed = Parsed::default();
        let mut rejects = Vec::new();
        for line in &piece.lines {
            if line.text.trim().is_empty() {
                continue;
            }
            let taken = access_log::parse(format, &line.text)
                .map_err(|error| error.to_string())
                .and_then(|found| self.push(&mut parsed.batch, &found, accepted));
            if let Err(reason) = taken {
                parsed.rejected += 1;
                rejects.push(format!("line {}: {reason}", grouped(line.number)));
            }
        }
        (parsed, rejects)
    }

    fn push(&self, batch: &mut Batch, line: &LogLine<'_>, accepted: AcceptedTimes) -> Result<(), String> {
        let fields = RecordFields {
            timestamp: Timestamp::Instant(line.timestamp + self.shift),
            service: line.service.as_deref().or(self.service.as_deref()),
            method: &line.method,
            target: Target::Path(&line.path),
            status: i64::from(line.status),
            response_time_ms: line.response_time_ms,
            trace_id: line.trace_id.as_deref(),
        };
        batch
            .push(&fields, accepted)
            .map_err(|error| format!("{} {}", error.field.unwrap_or("the record"), error.reason))
    }

    fn read_records(&self, piece: &Piece, accepted: AcceptedTimes) -> (Parsed, Vec<String>) {
        let lines: Vec<_> = piece.lines.iter().filter(|line| !line.text.trim().is_empty()).collect();
        let shifted: Vec<String> = lines.iter().map(|line| self.moved_record(&line.text)).collect();
        match read_ndjson(shifted.join("\n").as_bytes(), accepted) {
            Ok(parsed) => {
                let number = |index: u64| lines.get(index as usize).map_or(0, |line| line.number);
                let rejects = parsed.errors.iter().map(|error| {
                    format!(
                        "line {}: {} {}",
                        grouped(number(error.index)),
                        error.field.unwrap_or("the record"),
                        error.reason
                    )
                });
                let rejects = rejects.collect();
                (parsed, rejects)
            }
            // Not a single line is JSON; or there is none.
            Err(error) => {
                let rejected = lines.len() as u64;
                let rejects = lines.iter().map(|line| format!("line {}: {error}", grouped(line.number))).collect();
                (Parsed { rejected, ..Parsed::default() }, rejects)
            }
        }
    }

    /// A record moved in time and given its service, where either is asked for.
    fn moved_record(&self, text: &str) -> String {
        if self.shift.is_zero() && self.service.is_none() {
            return text.to_owned();
        }
        let Ok(serde_json::Value::Object(mut record)) = serde_json::from_str(text) else { return text.to_owned() };
        if let Some(at) = timestamp(Format::Ndjson, text).filter(|_| !self.shift.is_zero()) {
            record.insert("timestamp".to_owned(), (at + self.shift).to_rfc3339().into());
        }
        if let (Some(service), None) = (&self.service, record.get("service")) {
            record.insert("service".to_owned(), service.clone().into());
        }
        serde_json::Value::Object(record).to_string()
    }
}

/// The instant of a line, where it has one.
fn timestamp(format: Format, text: &str) -> Option<DateTime<Utc>> {
    match format {
        Format::Log(format) => access_log::parse(format, text).ok().map(|line| line.timestamp),
        Format::Ndjson => {
            let record: serde_json::Value = serde_json::from_str(text).ok()?;
            let any = AcceptedTimes { oldest: None, newest: DateTime::<Utc>::MAX_UTC };
            match record.get("timestamp")? {
                serde_json::Value::String(text) => Timestamp::Text(text).read(any).ok(),
                number => Timestamp::EpochMs(number.as_f64()?).read(any).ok(),
            }
        }
    }
}

/// The lines of a file, unpacked if it is gzip, whatever its name. The bar follows the bytes of the file itself.
fn open(file: &Path, bar: &ProgressBar) -> io::Result<Box<dyn BufRead + Send>> {
    let raw: Box<dyn Read + Send> =
        if file == Path::new("-") { Box::new(io::stdin()) } else { Box::new(bar.wrap_read(File::open(file)?)) };
    let mut buffered = BufReader::with_capacity(256 * 1024, raw);
    let gzip = buffered.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    Ok(if gzip {
        Box::new(BufReader::with_capacity(256 * 1024, MultiGzDecoder::new(buffered)))
    } else {
        Box::new(buffered)
    })
}

/// Whole days as days: humantime makes "1year 1month 4days …" of 400 of them.
fn span(time: Duration) -> String {
    const DAY: u64 = 86_400;
    match time.as_secs() {
        seconds if time.subsec_nanos() == 0 && seconds % DAY == 0 => format!("{} days", seconds / DAY),
        _ => humantime::format_duration(time).to_string(),
    }
}

/// Drawn on standard error where that is a terminal, and nowhere else.
fn progress_bar(file: &Path) -> ProgressBar {
    let length = std::fs::metadata(file).ok().map(|metadata| metadata.len());
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
    // The template is a constant, and a bar without style would do.
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {msg} {eta}") {
        bar.set_style(style);
    }
    bar
}
