//! What came out: the table, what makes it doubtful, and what lies behind it.

use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::figures::{Rounded, Sample};
use crate::machine::Machine;

/// Beyond this, measurements of one figure lie so far apart that it says little.
const DOUBTFUL_SPREAD: f64 = 0.3;

/// One line of the table.
pub(crate) struct Line {
    /// Number of the row in the issue that asks for it, and what is measured.
    pub(crate) what: (u8, String),
    /// What came out, with its unit.
    pub(crate) ours: String,
    /// What stands beside it, with its unit.
    pub(crate) beside: String,
    /// One to the other; or, without anything beside it, the figure that has a goal.
    pub(crate) ratio: String,
    /// The goal; `None`: told for comparison.
    pub(crate) goal: Option<Goal>,
    /// How far measurements of the ratio lie apart, relative to it; `None`: measured once.
    pub(crate) spread: Option<f64>,
}

/// What is to be reached, and whether it is.
pub(crate) struct Goal {
    text: String,
    met: bool,
}

impl Goal {
    /// `value` is to be at least `goal`.
    pub(crate) fn at_least(goal: f64, unit: &str, value: f64) -> Self {
        Self { text: format!("≥ {goal}{unit}"), met: value >= goal }
    }

    /// `value` is to be at most `goal`.
    pub(crate) fn at_most(goal: f64, unit: &str, value: f64) -> Self {
        Self { text: format!("≤ {goal}{unit}"), met: value <= goal }
    }
}

impl Line {
    /// A rate beside a rate of the same rounds: the more the better.
    pub(crate) fn rates(row: u8, what: &str, unit: &str, ours: &Sample, beside: (&str, &Sample), goal: f64) -> Self {
        let ratio = ours.over(beside.1);
        Self {
            what: (row, what.to_owned()),
            ours: format!("{} {unit}", Rounded(ours.median())),
            beside: format!("{}: {}", beside.0, Rounded(beside.1.median())),
            ratio: format!("{} ×", Rounded(ratio.median())),
            goal: Some(Goal::at_least(goal, " ×", ratio.median())),
            spread: (ratio.len() > 1).then(|| ratio.spread()),
        }
    }

    /// A figure that has a goal of its own, to stay at or under.
    pub(crate) fn at_most(row: u8, what: &str, unit: &str, ours: &Sample, goal: f64) -> Self {
        let value = format!("{} {unit}", Rounded(ours.median()));
        Self {
            what: (row, what.to_owned()),
            ours: value.clone(),
            beside: "–".to_owned(),
            ratio: value,
            goal: Some(Goal::at_most(goal, &format!(" {unit}"), ours.median())),
            spread: (ours.len() > 1).then(|| ours.spread()),
        }
    }
}

/// The whole.
pub(crate) struct Table {
    machine: Machine,
    lines: Vec<Line>,
    details: Vec<(String, String)>,
    commands: Vec<String>,
    took: Duration,
}

impl Table {
    /// Without lines.
    pub(crate) fn new(machine: Machine) -> Self {
        Self { machine, lines: Vec::new(), details: Vec::new(), commands: Vec::new(), took: Duration::ZERO }
    }

    /// One more line, also told at once: a run takes minutes.
    pub(crate) fn add(&mut self, line: Line) {
        eprintln!("  {}: {} | beside {} | {}", line.what.1, line.ours, line.beside, line.ratio);
        self.lines.push(line);
    }

    /// What lies behind some lines, as Markdown.
    pub(crate) fn detail(&mut self, title: &str, text: String) {
        self.details.push((title.to_owned(), text));
    }

    /// A command that measured something.
    pub(crate) fn command(&mut self, what: &str, command: &str) {
        let line = format!("- {what}: `{command}`");
        if !self.commands.contains(&line) {
            self.commands.push(line);
        }
    }

    /// How long it all took.
    pub(crate) fn took(&mut self, took: Duration) {
        self.took = took;
    }

    /// The table itself, as Markdown.
    pub(crate) fn lines(&self) -> String {
        let mut text = "| # | measured | endpoint-stats | beside it | ratio | goal | met | spread |\n".to_owned();
        text.push_str("|---|---|---|---|---|---|---|---|\n");
        for Line { what: (row, what), ours, beside, ratio, goal, spread } in &self.lines {
            let (goal, met) = match goal {
                Some(Goal { text, met }) => (text.as_str(), if *met { "yes" } else { "**no**" }),
                None => ("–", "–"),
            };
            let spread = spread.map_or_else(|| "–".to_owned(), |spread| format!("{:.0} %", spread * 100.0));
            let _ = writeln!(text, "| {row} | {what} | {ours} | {beside} | {ratio} | {goal} | {met} | {spread} |");
        }
        text
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.machine.warning().into_iter().collect();
        for line in &self.lines {
            if line.spread.is_some_and(|spread| spread > DOUBTFUL_SPREAD) {
                warnings.push(format!("row {}, {}: the rounds lie far apart", line.what.0, line.what.1));
            }
        }
        warnings
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Measured side by side\n")?;
        writeln!(
            f,
            "Written by `make bench`, in {:.0} s. Ratios are of one run, medians of its rounds; the spread is how far",
            self.took.as_secs_f64()
        )?;
        writeln!(f, "the rounds lie apart, relative to the median. Absolute figures are this machine's.\n")?;
        writeln!(f, "{}", self.machine)?;
        f.write_str(&self.lines())?;
        let warnings = self.warnings();
        if !warnings.is_empty() {
            writeln!(f, "\nDoubtful:\n")?;
            warnings.iter().try_for_each(|warning| writeln!(f, "- {warning}"))?;
        }
        for (title, text) in &self.details {
            writeln!(f, "\n## {title}\n\n{text}")?;
        }
        writeln!(f, "\n## Commands\n")?;
        self.commands.iter().try_for_each(|command| writeln!(f, "{command}"))
    }
}

/// `page` with these lines in the place of those between the two comments that mark them; `None` if there are none.
pub(crate) fn within(page: &str, lines: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{lines}{END}{after}"))
}

const BEGIN: &str = "<!-- the table of benches/RESULTS.md, written by make bench -->";
const END: &str = "<!-- the end of the table -->";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_or_not() {
        assert!(Goal::at_least(0.9, " ×", 0.9).met && !Goal::at_least(0.9, " ×", 0.899).met);
        assert!(Goal::at_most(25.0, " ms", 25.0).met && !Goal::at_most(25.0, " ms", 25.1).met);
        assert!(
            !Goal::at_least(1.0, "", f64::NAN).met && !Goal::at_most(1.0, "", f64::NAN).met,
            "nothing was measured"
        );
    }

    #[test]
    fn the_table_takes_the_place_of_the_last() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nz\n");
        let written = within(&page, "new\n").unwrap();
        assert_eq!(written, format!("a\n{BEGIN}\nnew\n{END}\nz\n"));
        assert_eq!(within(&written, "new\n").unwrap(), written);
        assert_eq!(within("a page without", "new\n"), None);
    }
}
