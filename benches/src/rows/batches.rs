//! Row 2: the same with few records a request, beside a plain service that inserts each by itself.

use anyhow::Result;

use super::{SENDERS, Served};
use crate::figures::{Rounded, Sample};
use crate::plain::Plain;
use crate::progress;
use crate::table::{Line, Table};
use crate::traffic;

/// Records of a request, and bodies that are sent in turns.
const SIZES: [(usize, usize); 3] = [(1, 2_000), (10, 2_000), (100, 1_000)];

/// How many times as fast as one `INSERT` a record the largest of them is to be.
const GOAL: f64 = 20.0;

pub(crate) fn measure(served: &Served<'_>, plain: &Plain, table: &mut Table) -> Result<()> {
    progress("row 2: small batches");
    let bench = served.bench;
    plain.empty()?;
    let mut inserts = Sample::default();
    let mut ours = vec![Sample::default(); SIZES.len()];
    for _ in 0..bench.pace.rounds {
        inserts.add(plain.insert(bench.pace.load)?);
        for ((records, bodies), sample) in SIZES.into_iter().zip(&mut ours) {
            sample.add(speed(served, records, bodies)?);
        }
    }
    for ((records, _), sample) in SIZES.into_iter().zip(&ours) {
        let noun = if records == 1 { "record" } else { "records" };
        let what = format!("the same with {records} {noun} a request");
        let beside = ("one `INSERT` a record, prepared, over one connection, rows/s", &inserts);
        let mut line = Line::rates(2, &what, "records/s", sample, beside, GOAL);
        if records < 100 {
            line.goal = None;
        }
        table.add(line);
    }
    table.command("row 2, beside", "pgbench -n -c1 -j1 -M prepared -f insert.sql");
    Ok(())
}

/// Records acknowledged a second.
pub(crate) fn speed(served: &Served<'_>, records: usize, bodies: usize) -> Result<f64> {
    let load = served.bench.pace.load;
    let bodies = traffic::bodies(bodies, records, load.as_secs_f64());
    let outcome = served.sending(SENDERS, &bodies)?.run(load)?;
    eprintln!("    {records} a request: p50 {} ms, p99 {} ms", Rounded(outcome.p50_ms), Rounded(outcome.p99_ms));
    Ok(outcome.per_second() * records as f64)
}
