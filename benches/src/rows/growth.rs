//! Row 11: rows 1, 2 and 4 with a history four and sixteen times as long; and row 5, refreshing it.

use std::fmt::Write as _;

use anyhow::Result;
use chrono::Utc;

use super::{Served, batches, ingest, refresh, uncached};
use crate::figures::{Rounded, Sample};
use crate::history;
use crate::plain::Plain;
use crate::progress;
use crate::table::{Goal, Line, Table};

/// How far a figure may move with sixteen times the history: what measurements of the same differ by on a shared machine.
const FLAT: f64 = 1.3;

/// What is measured at each length.
const MEASURES: [&str; 5] =
    ["records/s, 5,000 a request", "records/s, 100 a request", "top-10 over 1 h, ms", "over 24 h, ms", "over 30 d, ms"];

pub(crate) fn measure(served: &mut Served<'_>, plain: &Plain, table: &mut Table) -> Result<()> {
    let bench = served.bench;
    let mut measured: Vec<(u32, [f64; MEASURES.len()])> = Vec::new();
    for (length, &days) in bench.pace.history_days.iter().enumerate() {
        if length > 0 {
            progress(&format!("history of {days} days"));
            history::reach_back(&bench.program, &served.database, days, Utc::now())?;
        }
        if bench.wants(5) {
            refresh::measure(served, days, (length == 0).then_some(plain), table)?;
        }
        if bench.wants(11) && bench.pace.history_days.len() > 1 {
            progress(&format!("row 11: at {days} days"));
            measured.push((days, at(served)?));
        }
    }
    let (Some((_, first)), Some((days, last))) = (measured.first(), measured.last()) else { return Ok(()) };
    for (number, what) in MEASURES.iter().enumerate() {
        let (first, last) = (first[number], last[number]);
        // Of a rate less is worse, of a time more.
        let worse = if number < 2 { first / last } else { last / first };
        table.add(Line {
            what: (11, format!("growth: {what}, at {days} days of history")),
            ours: Rounded(last).to_string(),
            beside: format!("at {} days: {}", measured[0].0, Rounded(first)),
            ratio: format!("{} × worse", Rounded(worse)),
            goal: Some(Goal::at_most(FLAT, " ×", worse)),
            spread: None,
        });
    }
    let mut details =
        format!("| days of history | {} |\n|---|{}\n", MEASURES.join(" | "), "---|".repeat(MEASURES.len()));
    for (days, figures) in &measured {
        let figures = figures.map(|figure| Rounded(figure).to_string()).join(" | ");
        let _ = writeln!(details, "| {days} | {figures} |");
    }
    table.detail("Growth", details);
    Ok(())
}

fn at(served: &Served<'_>) -> Result<[f64; MEASURES.len()]> {
    let rounds = served.bench.pace.rounds;
    let mut samples: [Sample; MEASURES.len()] = Default::default();
    for _ in 0..rounds.min(2) {
        samples[0].add(ingest::speed(served)?);
        samples[1].add(batches::speed(served, 100, 1_000)?);
    }
    for _ in 0..rounds {
        for (median, sample) in uncached::medians(served)?.into_iter().zip(&mut samples[2..]) {
            sample.add(median);
        }
    }
    Ok(samples.map(|sample| sample.median()))
}
