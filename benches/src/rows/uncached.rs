//! Row 4: the top 10 by each order over an hour, a day and a month, made for each request.

use std::fmt::Write as _;

use anyhow::Result;

use super::Served;
use crate::figures::{Rounded, Sample, millis};
use crate::load::{Load, get};
use crate::plain::Plain;
use crate::table::{Goal, Line, Table};

const ORDERS: [&str; 10] =
    ["requests", "errors", "error_rate", "client_errors", "avg", "p50", "p95", "p99", "max", "total_time"];

const WINDOWS: [&str; 3] = ["1h", "24h", "30d"];

/// Milliseconds that half of the answers may take.
const MEDIAN_MS: f64 = 25.0;

/// How many times as long as over an hour it may take over a month.
const MONTH_OVER_HOUR: f64 = 3.0;

/// How many times as long the plain query is to take.
const PLAIN_OVER_OURS: f64 = 100.0;

pub(crate) fn measure(served: &Served<'_>, plain: &Plain, table: &mut Table) -> Result<()> {
    eprintln!("row 4: uncached answers");
    let mut slowest = [(0.0_f64, ""); WINDOWS.len()];
    let mut details =
        "p50 / p99 in ms, one connection\n\n| order | 1 h | 24 h | 30 d |\n|---|---|---|---|\n".to_owned();
    for order in ORDERS {
        let _ = write!(details, "| {order} ");
        for (window, slowest) in WINDOWS.iter().zip(&mut slowest) {
            let [p50, p99] = latency(served, order, window)?;
            let _ = write!(details, "| {} / {} ", Rounded(p50), Rounded(p99));
            if p50 > slowest.0 {
                *slowest = (p50, order);
            }
        }
        details.push_str("|\n");
    }
    for (window, (p50, order)) in WINDOWS.iter().zip(slowest) {
        let what = format!(
            "uncached top-10 over {window}, 500 endpoints, {} requests/s for 30 d in the rollups: p50 of the slowest order",
            crate::history::PER_SECOND
        );
        let mut line = Line::at_most(4, &what, "ms", &[p50].into_iter().collect(), MEDIAN_MS);
        line.ours.push_str(&format!(" ({order})"));
        table.add(line);
    }
    let [(hour, _), _, (month, _)] = slowest;
    table.add(ratio("30 d beside 1 h", month, ("1 h", hour), month / hour, |ratio| {
        Goal::at_most(MONTH_OVER_HOUR, " ×", ratio)
    }));

    let rows = Rounded(served.bench.pace.plain_rows as f64);
    for (window, hours, seen) in [("30d", None, "all"), ("1h", Some(1), "the hour's")] {
        let [ours, _] = latency(served, "p95", window)?;
        for (by_p95, figures) in [(true, "the same figures"), (false, "no percentiles")] {
            let mut took = Sample::default();
            for _ in 0..served.bench.pace.rounds {
                took.add(millis(plain.top(hours, by_p95)?));
            }
            let beside = format!("the plain query, {figures}, on {seen} of {rows} raw rows");
            let mut line = ratio(
                &format!("the same by p95 over {window}"),
                ours,
                (&beside, took.median()),
                took.median() / ours,
                |ratio| Goal::at_least(PLAIN_OVER_OURS, " ×", ratio),
            );
            if !by_p95 {
                line.goal = None;
            }
            table.add(line);
        }
    }
    table.detail("Uncached answers by order and window", details);
    table.command("row 4", "wrk -t1 -c1 -d1s, with Cache-Control: no-cache");
    Ok(())
}

fn ratio(what: &str, ours: f64, beside: (&str, f64), ratio: f64, goal: impl Fn(f64) -> Goal) -> Line {
    Line {
        what: (4, what.to_owned()),
        ours: format!("{} ms", Rounded(ours)),
        beside: format!("{}: {} ms", beside.0, Rounded(beside.1)),
        ratio: format!("{} ×", Rounded(ratio)),
        goal: Some(goal(ratio)),
        spread: None,
    }
}

/// p50 and p99 of answers that are each made anew, milliseconds.
pub(crate) fn latency(served: &Served<'_>, order: &str, window: &str) -> Result<[f64; 2]> {
    let outcome = asking(served, &[order], &[window], 1)?.run(served.bench.pace.question)?;
    Ok([outcome.p50_ms, outcome.p99_ms])
}

/// A load of questions whose answers are each made anew.
pub(crate) fn asking(served: &Served<'_>, orders: &[&str], windows: &[&str], connections: u16) -> Result<Load> {
    let bearer = format!("Bearer {}", served.keys[0]);
    let headers = [("Authorization", bearer.as_str()), ("Cache-Control", "no-cache")];
    let targets = orders.iter().flat_map(|order| {
        windows.iter().map(move |window| format!("/api/v1/endpoints/top?by={order}&window={window}"))
    });
    let requests = targets.map(|target| get(&target, &headers));
    Load::new(&served.bench.folder, "anew", &served.service.address(), connections)?.write(requests)
}
