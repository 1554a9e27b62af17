//! Row 9: from nothing to ready, the schema being there.

use anyhow::Result;

use super::Bench;
use crate::figures::{Sample, millis};
use crate::progress;
use crate::servers::{Database, Service};
use crate::table::{Line, Table};

/// Starts, the first of which finds nothing of the program in the memory of the kernel and is not counted.
const STARTS: usize = 6;

/// Starts the service several times, and returns it started.
pub(crate) fn measure(bench: &Bench, database: &Database, table: &mut Table) -> Result<Service> {
    let mut ready_after = Sample::default();
    for start in 0..STARTS {
        let service = bench.program.serve(database)?;
        if start > 0 {
            ready_after.add(millis(service.ready_after));
        }
        service.stop();
    }
    if bench.wants(9) {
        progress("row 9: start");
        let what = "cold start to ready (`/readyz` answers 200), schema present";
        table.add(Line::at_most(9, what, "ms", &ready_after, 200.0));
    }
    bench.program.serve(database)
}
