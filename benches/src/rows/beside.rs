//! Row 6: answers while records come in at half the speed that is possible, beside answers alone.

use std::time::Duration;

use anyhow::Result;

use super::ingest::RECORDS;
use super::uncached::asking;
use super::{SENDERS, Served};
use crate::figures::{Rounded, Sample};
use crate::progress;
use crate::table::{Goal, Line, Table};
use crate::traffic;

/// How many times as long as alone all answers but one in a hundred may take.
const GOAL: f64 = 3.0;

/// A question every so often: as many people as look at a page that renews itself every ten seconds make, by the hundred.
const EVERY: Duration = Duration::from_millis(100);

/// Connections of those who ask.
const READERS: u16 = 4;

/// Bodies that are sent in turns.
const BODIES: usize = 64;

pub(crate) fn measure(served: &Served<'_>, full_speed: f64, table: &mut Table) -> Result<()> {
    progress("row 6: answers beside ingest");
    let bench = served.bench;
    let (orders, windows) = (["requests", "errors", "p95", "avg"], ["window=1h", "window=24h", "window=30d"]);
    // Twice as long as elsewhere: a fold comes every ten seconds.
    let load = bench.pace.load * 2;
    let questions = asking(served, &orders, &windows, READERS)?.every(EVERY);
    let between = Duration::from_secs_f64(RECORDS as f64 / (full_speed / 2.0));
    let (mut alone, mut beside, mut sent) = (Sample::default(), Sample::default(), Sample::default());
    for _ in 0..bench.pace.rounds {
        alone.add(questions.run(load)?.p99_ms);
        let bodies = traffic::bodies(BODIES, RECORDS, load.as_secs_f64());
        let records = served.sending(SENDERS, &bodies)?.every(between);
        // Ingest begins a moment before the questions and ends a moment after them.
        let around = load + Duration::from_secs(2);
        std::thread::scope(|scope| -> Result<()> {
            let sending = scope.spawn(|| records.run(around));
            std::thread::sleep(Duration::from_secs(1));
            beside.add(questions.run(load)?.p99_ms);
            let outcome = sending.join().map_err(|_| anyhow::anyhow!("the load broke off"))??;
            sent.add(outcome.per_second() * RECORDS as f64);
            Ok(())
        })?;
    }
    let ratio = beside.over(&alone);
    table.add(Line {
        what: (6, format!("uncached answers while {} records/s come in: p99", Rounded(sent.median()))),
        ours: format!("{} ms", Rounded(beside.median())),
        beside: format!("alone: {} ms", Rounded(alone.median())),
        ratio: format!("{} ×", Rounded(ratio.median())),
        goal: Some(Goal::at_most(GOAL, " ×", ratio.median())),
        spread: (ratio.len() > 1).then(|| ratio.spread()),
    });
    table.command(
        "row 6",
        "wrk -t1 -c4, a question every 100 ms, beside wrk -t1 -c8, a request in the time that half the speed leaves",
    );
    Ok(())
}
