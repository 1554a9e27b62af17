//! Row 4: the top 10 by each order over an hour, a day and a month, made for each request.

use std::fmt::Write as _;

use anyhow::Result;
use chrono::{DurationRound as _, SecondsFormat, TimeDelta, Utc};

use super::Served;
use crate::figures::{Rounded, Sample, millis};
use crate::load::{Load, get};
use crate::plain::Plain;
use crate::progress;
use crate::table::{Goal, Line, Table};

const ORDERS: [&str; 10] =
    ["requests", "errors", "error_rate", "client_errors", "avg", "p50", "p95", "p99", "max", "total_time"];

/// Windows, and their hours.
const WINDOWS: [(&str, i64); 3] = [("1 h", 1), ("24 h", 24), ("30 d", 720)];

/// The minute of an hour at which windows begin: from there to the full hour minutes are read, 500 rows each, so that what a
/// question costs depends on the clock. Half past stands for all; a minute past is the most there is.
const HALF_PAST: i64 = 30;
const MOST_MINUTES: i64 = 1;

/// Milliseconds that half of the answers may take.
const MEDIAN_MS: f64 = 25.0;

/// How many times as long as over an hour it may take over a month.
const MONTH_OVER_HOUR: f64 = 3.0;

/// How many times as long the plain query is to take.
const PLAIN_OVER_OURS: f64 = 100.0;

pub(crate) fn measure(served: &Served<'_>, plain: &Plain, table: &mut Table) -> Result<()> {
    progress("row 4: uncached answers");
    let mut slowest = [(0.0_f64, ""); WINDOWS.len()];
    let mut details = "p50 / p99 in ms, one connection, windows that begin at half past\n\n| order |".to_owned();
    WINDOWS.iter().for_each(|(window, _)| details.push_str(&format!(" {window} |")));
    details.push_str("\n|---|---|---|---|\n");
    for order in ORDERS {
        let _ = write!(details, "| {order} ");
        for ((_, hours), slowest) in WINDOWS.iter().zip(&mut slowest) {
            let [p50, p99] = latency(served, order, *hours, HALF_PAST)?;
            let _ = write!(details, "| {} / {} ", Rounded(p50), Rounded(p99));
            if p50 > slowest.0 {
                *slowest = (p50, order);
            }
        }
        details.push_str("|\n");
    }
    let rate = crate::history::PER_SECOND;
    for ((window, _), (p50, order)) in WINDOWS.iter().zip(slowest) {
        let what = format!(
            "uncached top-10 over {window} from half past, 500 endpoints, {rate} requests/s for 30 d in the rollups: p50 of the slowest order"
        );
        let mut line = Line::at_most(4, &what, "ms", &[p50].into_iter().collect(), MEDIAN_MS);
        line.ours.push_str(&format!(" ({order})"));
        table.add(line);
    }
    for (window, hours) in &WINDOWS[..2] {
        let [p50, _] = latency(served, "p95", *hours, MOST_MINUTES)?;
        let what =
            format!("the same by p95 over {window} from a minute past the hour, the most minutes there are to read");
        table.add(Line::at_most(4, &what, "ms", &[p50].into_iter().collect(), MEDIAN_MS));
    }
    let [(hour, _), _, (month, _)] = slowest;
    table.add(ratio("30 d beside 1 h", month, ("1 h", hour), month / hour, |ratio| {
        Goal::at_most(MONTH_OVER_HOUR, " ×", ratio)
    }));

    let rows = Rounded(served.bench.pace.plain_rows as f64);
    for ((window, hours), of_hour, seen) in [(WINDOWS[2], None, "all"), (WINDOWS[0], Some(1), "the hour's")] {
        let [ours, _] = latency(served, "p95", hours, HALF_PAST)?;
        for (by_p95, figures) in [(true, "the same figures"), (false, "no percentiles")] {
            // Ten seconds and more with percentiles: once is enough.
            let rounds = if by_p95 { 1 } else { served.bench.pace.rounds };
            let took = (0..rounds).map(|_| Ok(millis(plain.top(of_hour, by_p95)?))).collect::<Result<Vec<f64>>>()?;
            let took = took.into_iter().collect::<Sample>().median();
            let what = format!("the same by p95 over {window}");
            let beside = format!("the plain query, {figures}, on {seen} of {rows} raw rows");
            let mut line =
                ratio(&what, ours, (&beside, took), took / ours, |ratio| Goal::at_least(PLAIN_OVER_OURS, " ×", ratio));
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

/// p50 and p99 of answers that are each made anew, milliseconds: over some hours up to now, from this minute of an hour on.
pub(crate) fn latency(served: &Served<'_>, order: &str, hours: i64, minute: i64) -> Result<[f64; 2]> {
    let hour = (Utc::now() - TimeDelta::hours(hours)).duration_trunc(TimeDelta::hours(1))?;
    let from = (hour + TimeDelta::minutes(minute)).to_rfc3339_opts(SecondsFormat::Secs, true);
    let outcome = asking(served, &[order], &[&format!("from={from}")], 1)?.run(served.bench.pace.question)?;
    Ok([outcome.p50_ms, outcome.p99_ms])
}

/// p50 of the top 10 by p95 over each of [`WINDOWS`], milliseconds.
pub(crate) fn medians(served: &Served<'_>) -> Result<[f64; WINDOWS.len()]> {
    let mut medians = [0.0; WINDOWS.len()];
    for ((_, hours), median) in WINDOWS.iter().zip(&mut medians) {
        *median = latency(served, "p95", *hours, HALF_PAST)?[0];
    }
    Ok(medians)
}

/// A load of questions whose answers are each made anew.
pub(crate) fn asking(served: &Served<'_>, orders: &[&str], windows: &[&str], connections: u16) -> Result<Load> {
    let bearer = format!("Bearer {}", served.keys[0]);
    let headers = [("Authorization", bearer.as_str()), ("Cache-Control", "no-cache")];
    let targets = orders
        .iter()
        .flat_map(|order| windows.iter().map(move |window| format!("/api/v1/endpoints/top?by={order}&{window}")));
    let requests = targets.map(|target| get(&target, &headers));
    Load::new(&served.bench.folder, "anew", &served.service.address(), connections)?.write(requests)
}
