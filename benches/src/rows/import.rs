//! Row 10: a combined access log, beside goaccess, which keeps nothing.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, ensure};
use chrono::{TimeDelta, Utc};

use super::Bench;
use crate::figures::Sample;
use crate::programs::run;
use crate::progress;
use crate::servers::Database;
use crate::table::{Line, Table};
use crate::traffic::{Names, Traffic};

/// How many times as many lines a second as goaccess.
const GOAL: f64 = 4.0;

pub(crate) fn measure(bench: &Bench, table: &mut Table) -> Result<()> {
    progress("row 10: import");
    let lines = bench.pace.log_lines;
    let (names, mut log) = (Names::all(), String::new());
    // A day and a half of a log, up to now.
    let per_second = lines as f64 / 130_000.0;
    for request in Traffic::from(Utc::now() - TimeDelta::seconds(130_000), per_second).take(lines) {
        names.push_combined(&request, &mut log);
    }
    let file = bench.folder.join("access.log");
    std::fs::write(&file, log)?;

    let report = bench.folder.join("goaccess.json");
    let mut analysis = Command::new("goaccess");
    analysis.arg(&file).args(["--log-format=COMBINED", "--no-progress", "--no-global-config", "-o"]).arg(report);
    let began = Instant::now();
    run(&mut analysis)?;
    let its_speed = lines as f64 / began.elapsed().as_secs_f64();

    let (mut ours, mut goaccess) = (Sample::default(), Sample::default());
    for _ in 0..bench.pace.rounds {
        goaccess.add(its_speed);
        let database = Database::create(bench.postgres.url(), "imported")?;
        run(&mut bench.program.command(&database, &["migrate"]))?;
        database.execute("CHECKPOINT")?;
        let began = Instant::now();
        run(bench.program.command(&database, &["import"]).arg(&file))?;
        ours.add(lines as f64 / began.elapsed().as_secs_f64());
        let stored = database.number("SELECT COUNT(*) FROM requests")?;
        ensure!(stored as usize == lines, "{stored} of {lines} lines are stored");
    }
    let what = format!("`import` of a combined log of {lines} lines, stored durably");
    let beside = ("goaccess on the same file, JSON output, nothing stored, lines/s", &goaccess);
    table.add(Line::rates(10, &what, "lines/s", &ours, beside, GOAL));
    table.command("row 10", "endpoint-stats import access.log");
    table.command("row 10, beside", "goaccess access.log --log-format=COMBINED -o goaccess.json");
    Ok(())
}
