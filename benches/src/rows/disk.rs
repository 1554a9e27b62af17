//! Row 8: bytes on disk a request, once its day has closed.

use anyhow::{Result, ensure};
use chrono::{TimeDelta, Utc};

use super::Bench;
use crate::figures::Rounded;
use crate::history::PER_SECOND;
use crate::plain::Plain;
use crate::programs::run;
use crate::progress;
use crate::servers::Database;
use crate::table::{Goal, Line, Table};
use crate::traffic::{Names, Traffic};

/// What part of the plain schema's bytes a request may take.
const GOAL: f64 = 0.25;

/// All that is ours, the view and every index included. The room of the deltas is used again all day, so of the minutes that
/// are taken in it is their share.
const BYTES: &str = "
    SELECT SUM(pg_total_relation_size(oid) * CASE WHEN relname = 'rollup_deltas' THEN {share} ELSE 1 END)::float8 FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'm')";

pub(crate) fn measure(bench: &Bench, plain: &Plain, table: &mut Table) -> Result<()> {
    progress("row 8: bytes on disk");
    let database = Database::create(bench.postgres.url(), "disk")?;
    run(&mut bench.program.command(&database, &["migrate"]))?;
    // Before the first record a table and its indexes have their first pages, whatever the number of requests.
    let bytes = BYTES.replace("{share}", &format!("{}", bench.pace.disk_minutes as f64 / 1_440.0));
    let empty = database.number(&bytes)?;
    let requests = bench.pace.disk_minutes * 60 * PER_SECOND;
    let (names, mut lines) = (Names::all(), String::new());
    let yesterday_noon = (Utc::now() - TimeDelta::days(1)).date_naive().and_hms_opt(12, 0, 0).unwrap_or_default();
    for request in Traffic::from(yesterday_noon.and_utc(), PER_SECOND as f64).take(requests as usize) {
        names.push_ndjson(&request, &mut lines);
    }
    let file = bench.folder.join("yesterday.ndjson");
    std::fs::write(&file, lines)?;
    run(bench.program.command(&database, &["import"]).arg(&file))?;
    // The service as it is a day later: folded, the closed day's index built, the view refreshed, vacuumed.
    for job in ["fold", "partitions", "refresh", "vacuum"] {
        bench.program.job(&database, job)?;
    }
    let stored = database.number("SELECT COUNT(*) FROM requests")?;
    ensure!(stored as u64 == requests, "{stored} of {requests} requests are stored");
    let ours = (database.number(&bytes)? - empty) / stored;

    plain.copy(requests as usize)?;
    let beside = plain.bytes_a_row()?;
    table.add(Line {
        what: (
            8,
            format!("bytes on disk a request at {PER_SECOND} requests/s, its day closed: all tables and indexes"),
        ),
        ours: format!("{} bytes", Rounded(ours)),
        beside: format!("the plain schema: {} bytes", Rounded(beside)),
        ratio: format!("{} ×", Rounded(ours / beside)),
        goal: Some(Goal::at_most(GOAL, " ×", ours / beside)),
        spread: None,
    });
    let parts = "SELECT string_agg(format('| %s | %s |', name, round(bytes::numeric / (SELECT COUNT(*) FROM requests), 2)), E'\\n' ORDER BY bytes DESC)
        FROM (
            SELECT regexp_replace(relname, '_[0-9]{8}', '_<day>') AS name, SUM(pg_relation_size(oid)) AS bytes FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'm', 'i') GROUP BY 1
        ) AS parts
        WHERE bytes > 100000";
    let parts = run(database.psql().args(["-At", "-c", parts]))?;
    table.detail("Bytes a request", format!("| table or index | bytes a request |\n|---|---|\n{parts}"));
    table.command(
        "row 8",
        "endpoint-stats import yesterday.ndjson; endpoint-stats job run fold (partitions, refresh, vacuum)",
    );
    Ok(())
}
