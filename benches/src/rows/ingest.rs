//! Row 1: records over HTTP until each is acknowledged, beside `COPY` by psql; and row 7, the memory that takes.

use anyhow::Result;

use super::{SENDERS, Served};
use crate::figures::Sample;
use crate::plain::Plain;
use crate::progress;
use crate::table::{Line, Table};
use crate::traffic;

/// Records of a request.
pub(crate) const RECORDS: usize = 5_000;

/// Bodies that are sent in turns: 320,000 different records.
const BODIES: usize = 64;

/// Rows of the text `COPY`: some five seconds of it.
const PLAIN_ROWS: usize = 320_000;

/// Rows of the binary `COPY`: some two seconds of it.
const BINARY_ROWS: usize = 2_000_000;

/// The most memory that is resident, MiB.
const MEMORY: f64 = 128.0;

/// Measures, and returns the records acknowledged a second.
pub(crate) fn measure(served: &Served<'_>, plain: &Plain, table: &mut Table) -> Result<f64> {
    progress("row 1: ingest");
    let bench = served.bench;
    // The service is warm: connections, endpoints known, the day's table there.
    speed(served)?;
    let (mut ours, mut text, mut binary) = (Sample::default(), Sample::default(), Sample::default());
    for _ in 0..bench.pace.rounds {
        text.add(plain.copy(PLAIN_ROWS)?);
        ours.add(speed(served)?);
        binary.add(binary_copy(served)?);
    }
    let what = "acknowledged ingest over HTTP: NDJSON, current timestamps, 500 endpoints, 5,000 records a request, 8 connections";
    if bench.wants(1) {
        let beside = ("rows/s of psql's text `COPY` into the plain schema", &text);
        table.add(Line::rates(1, what, "records/s", &ours, beside, 5.0));
        let beside = ("rows/s of psql's binary `COPY` into an empty copy of `requests`", &binary);
        table.add(Line::rates(1, what, "records/s", &ours, beside, 0.5));
        table.command("row 1", &served.sending(SENDERS, &[])?.command(bench.pace.load));
        table.command("row 1, beside", "psql -c '\\timing on' -c '\\copy plain from FILE'");
        table.command("row 1, beside", "psql -c '\\timing on' -c '\\copy copy_of_requests from FILE (FORMAT BINARY)'");
    }
    if bench.wants(7) {
        let memory = [served.service.peak_memory()?].into_iter().collect();
        table.add(Line::at_most(
            7,
            "resident memory of the service at full ingest, at its highest",
            "MiB",
            &memory,
            MEMORY,
        ));
    }
    Ok(ours.median())
}

/// Records acknowledged a second.
pub(crate) fn speed(served: &Served<'_>) -> Result<f64> {
    let load = served.bench.pace.load;
    let bodies = traffic::bodies(BODIES, RECORDS, load.as_secs_f64());
    Ok(served.sending(SENDERS, &bodies)?.run(load)?.per_second() * RECORDS as f64)
}

/// Rows a second into an empty table like a day of `requests`, of rows that ingest has written, in its order.
fn binary_copy(served: &Served<'_>) -> Result<f64> {
    let (database, file) = (&served.database, served.bench.folder.join("requests.copy"));
    if !file.exists() {
        // The newest day has what has just been sent.
        let day = "SELECT to_char(MAX(timestamp) AT TIME ZONE 'UTC', 'YYYYMMDD')::integer FROM requests";
        let day = database.number(day)?;
        database.execute(&format!("CREATE TABLE copy_of_requests (LIKE requests_{day} INCLUDING ALL)"))?;
        let rows = format!("SELECT * FROM requests_{day} LIMIT {BINARY_ROWS}");
        database.execute(&format!("\\copy ({rows}) to '{}' (FORMAT BINARY)", file.display()))?;
    }
    database.execute("TRUNCATE copy_of_requests; CHECKPOINT")?;
    let copy = format!("\\copy copy_of_requests from '{}' (FORMAT BINARY)", file.display());
    let took = database.time(&copy)?;
    Ok(database.number("SELECT COUNT(*) FROM copy_of_requests")? / took.as_secs_f64())
}
