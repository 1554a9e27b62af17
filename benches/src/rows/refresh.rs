//! Row 5: the refresh of the daily view, beside that of a plain view.

use anyhow::Result;

use super::Served;
use crate::figures::{Rounded, Sample, millis};
use crate::plain::Plain;
use crate::progress;
use crate::table::{Goal, Line, Table};

/// Milliseconds that a refresh of a month may take.
const GOAL_MS: f64 = 1_500.0;

/// A refresh of so many days; with a goal for a month, and beside the plain one if it is at hand.
pub(crate) fn measure(served: &Served<'_>, days: u32, plain: Option<&Plain>, table: &mut Table) -> Result<()> {
    progress(&format!("row 5: refresh of {days} days"));
    let (bench, mut ours, mut beside) = (served.bench, Sample::default(), Sample::default());
    let rounds = if days > 100 { 1 } else { bench.pace.rounds };
    for _ in 0..rounds {
        // As after late records: a refresh with nothing to do does nothing.
        served.database.execute("INSERT INTO stale_days (day) SELECT CURRENT_DATE - 10 ON CONFLICT DO NOTHING")?;
        ours.add(millis(bench.program.job(&served.database, "refresh")?));
        if let Some(plain) = plain {
            beside.add(millis(plain.refresh()?));
        }
    }
    let raw = served.database.number("SELECT COUNT(*) FROM requests")?;
    table.add(Line {
        what: (5, format!("refresh of the daily view over {days} days, {} raw rows in the database", Rounded(raw))),
        ours: format!("{} ms", Rounded(ours.median())),
        beside: plain.map_or_else(
            || "–".to_owned(),
            |_| {
                let rows = Rounded(bench.pace.plain_rows as f64);
                format!("`REFRESH` of a plain view over {rows} raw rows: {} ms", Rounded(beside.median()))
            },
        ),
        ratio: plain.map_or_else(|| "–".to_owned(), |_| format!("{} ×", Rounded(beside.median() / ours.median()))),
        goal: (days <= 30).then(|| Goal::at_most(GOAL_MS, " ms", ours.median())),
        spread: (ours.len() > 1).then(|| ours.spread()),
    });
    table.command("row 5", "endpoint-stats job run refresh");
    Ok(())
}
