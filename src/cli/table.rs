//! A ranking as a table in the terminal, never wider than it.
//!
//! A row is a line: nothing wraps. Where the terminal is too narrow, whole columns go, the least telling first
//! ([`DROPPED_FIRST`]), and only then is the endpoint cut. The column that was ranked by always stays.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::printable;
use super::top::grouped;
use crate::domain::Order;
use crate::stats::{RankedRow, RankingAnswer};

/// The width where nobody looks at it in a terminal: a file, a pipe.
const WIDTH_OF_A_FILE: usize = 120;

/// Between two columns.
pub(super) const GAP: usize = 2;

/// A longer endpoint is cut rather than a column dropped for it: one client's route of 512 bytes would else empty the table.
const ENDPOINT_SHOWN: usize = 48;

/// The least that is left of an endpoint, in a terminal where even that is too much.
const ENDPOINT_LEAST: usize = 12;

/// The columns that go, in this order, until the others fit.
const DROPPED_FIRST: [&str; 12] =
    ["total s", "per s", "share", "4xx", "max", "p50", "err %", "avg", "p99", "errors", "p95", "service"];

/// A column of a table.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) cells: Vec<String>,
    /// Whether its cells begin at the left; figures do not.
    pub(super) left: bool,
}

impl Column {
    pub(super) fn width(&self) -> usize {
        self.cells.iter().map(|cell| cell.width()).chain([self.name.width()]).max().unwrap_or_default()
    }
}

/// The width of the terminal on standard output.
pub(super) fn width() -> usize {
    terminal_size::terminal_size_of(std::io::stdout()).map_or(WIDTH_OF_A_FILE, |(width, _)| usize::from(width.0))
}

/// The ranking as lines of at most `width` columns of a terminal.
pub(super) fn table(answer: &RankingAnswer, width: usize) -> String {
    let mut columns = columns(&answer.rows);
    let ranked = ranked_column(answer.by);
    let fits = |columns: &[Column]| -> bool {
        let wanted = columns.iter().map(|column| match column.name {
            "endpoint" => column.width().min(ENDPOINT_SHOWN),
            _ => column.width(),
        });
        wanted.sum::<usize>() + GAP * (columns.len() - 1) <= width
    };
    for name in DROPPED_FIRST.into_iter().filter(|name| *name != ranked) {
        if fits(&columns) {
            break;
        }
        columns.retain(|column| column.name != name);
    }
    let others: usize =
        columns.iter().filter(|column| column.name != "endpoint").map(|column| column.width() + GAP).sum();
    let room = width.saturating_sub(others).max(ENDPOINT_LEAST);
    for column in columns.iter_mut().filter(|column| column.name == "endpoint") {
        column.cells.iter_mut().for_each(|cell| *cell = shortened(cell, room));
    }

    let mut text = line(&columns, |column| column.name);
    let rule = columns.iter().map(|column| column.width() + GAP).sum::<usize>() - GAP;
    text.push_str(&format!("{}\n", "─".repeat(rule)));
    for row in 0..answer.rows.len() {
        text.push_str(&line(&columns, |column| &column.cells[row]));
    }
    if answer.rows.is_empty() {
        text.push_str("No requests in this window.\n");
    }
    let total = &answer.total;
    text.push_str(&format!(
        "\n{} requests to {} endpoints, by {}\n{} to {} UTC; times in ms",
        grouped(total.figures.requests),
        grouped(total.endpoints),
        answer.by,
        answer.window.from.format("%Y-%m-%d %H:%M"),
        answer.window.to.format("%Y-%m-%d %H:%M"),
    ));
    text
}

fn columns(rows: &[RankedRow]) -> Vec<Column> {
    let column =
        |name, left, cell: &dyn Fn(&RankedRow) -> String| Column { name, left, cells: rows.iter().map(cell).collect() };
    vec![
        column("#", false, &|row| row.rank.to_string()),
        column("service", true, &|row| printable(&row.endpoint.service)),
        column("endpoint", true, &|row| format!("{} {}", row.endpoint.method, printable(&row.endpoint.route))),
        column("requests", false, &|row| grouped(row.figures.requests)),
        column("per s", false, &|row| per_second(row.figures.requests_per_second)),
        column("errors", false, &|row| grouped(row.figures.errors)),
        column("err %", false, &|row| percent(row.figures.error_rate)),
        column("4xx", false, &|row| grouped(row.figures.client_errors)),
        column("avg", false, &|row| ms(row.figures.avg_ms)),
        column("p50", false, &|row| ms(row.figures.p50_ms)),
        column("p95", false, &|row| ms(row.figures.p95_ms)),
        column("p99", false, &|row| ms(row.figures.p99_ms)),
        column("max", false, &|row| ms(row.figures.max_ms)),
        column("total s", false, &|row| grouped((row.figures.total_time_ms / 1_000.0).round() as u64)),
        column("share", false, &|row| format!("{}%", percent(Some(row.share)))),
    ]
}

/// The column that shows what an order ranks by.
fn ranked_column(order: &str) -> &'static str {
    match order.parse() {
        Ok(Order::Errors) => "errors",
        Ok(Order::ErrorRate) => "err %",
        Ok(Order::ClientErrors) => "4xx",
        Ok(Order::Avg) => "avg",
        Ok(Order::P50) => "p50",
        Ok(Order::P95) => "p95",
        Ok(Order::P99) => "p99",
        Ok(Order::Max) => "max",
        Ok(Order::TotalTime) => "total s",
        Ok(Order::Requests) | Err(()) => "requests",
    }
}

/// One line of a table.
pub(super) fn line<'a>(columns: &'a [Column], cell: impl Fn(&'a Column) -> &'a str) -> String {
    let mut line = String::new();
    for column in columns {
        let text = cell(column);
        let padding = " ".repeat(column.width().saturating_sub(text.width()));
        let (before, behind) = if column.left { ("", padding.as_str()) } else { (padding.as_str(), "") };
        line.push_str(&format!("{before}{text}{behind}{}", " ".repeat(GAP)));
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

/// A text cut to `room` columns, the cut marked by `…`.
pub(super) fn shortened(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1;
    for character in text.chars() {
        used += character.width().unwrap_or_default();
        if used > room {
            break;
        }
        kept.push(character);
    }
    kept.push('…');
    kept
}

/// Milliseconds with as many digits as they are good for.
fn ms(figure: Option<f64>) -> String {
    match figure {
        None => "–".to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.2}"),
        Some(ms) if ms < 100.0 => format!("{ms:.1}"),
        Some(ms) => grouped(ms.round() as u64),
    }
}

/// A rate of requests; rare ones are not told as none.
fn per_second(rate: f64) -> String {
    match rate {
        rate if rate >= 100.0 => grouped(rate.round() as u64),
        rate if rate >= 1.0 => format!("{rate:.1}"),
        rate if rate >= 0.01 || rate == 0.0 => format!("{rate:.2}"),
        _ => "<0.01".to_owned(),
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.2}", share * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Counters, PERCENTILE_ERROR};
    use crate::stats::{CacheState, Figures, Named, Total, WindowRead};

    fn answer(by: &'static str, routes: &[&str]) -> RankingAnswer {
        let mut counters = Counters::default();
        (0..12_345u64).for_each(|n| counters.add(if n % 100 == 0 { 503 } else { 200 }, Some(1_000 + n * 300)));
        let figures = Figures::of(&counters, 86_400.0);
        let rows = (1..).zip(routes).map(|(rank, route)| RankedRow {
            rank,
            endpoint: Named { id: 1, service: "checkout".to_owned(), method: "GET", route: (*route).to_owned() },
            figures: figures.clone(),
            share: 0.5,
            previous: None,
        });
        RankingAnswer {
            by,
            window: WindowRead {
                from: "2026-11-20T10:21:00Z".parse().unwrap(),
                to: "2026-11-21T10:26:00Z".parse().unwrap(),
            },
            tz: "UTC",
            previous_window: None,
            data_through: "2026-11-21T10:20:30Z".parse().unwrap(),
            percentile_error: PERCENTILE_ERROR,
            cache: CacheState::Miss,
            rows: rows.collect(),
            total: Total { endpoints: 2, figures },
        }
    }

    const ROUTES: [&str; 2] = ["/checkout/{id}/shipping-options", "/orders"];

    fn head(text: &str) -> Vec<&str> {
        text.lines().next().unwrap().split("  ").map(str::trim).filter(|name| !name.is_empty()).collect()
    }

    #[test]
    fn a_wide_terminal_shows_every_column() {
        let text = table(&answer("p95", &ROUTES), 200);
        assert_eq!(
            head(&text),
            [
                "#", "service", "endpoint", "requests", "per s", "errors", "err %", "4xx", "avg", "p50", "p95", "p99",
                "max", "total s", "share"
            ]
        );
        assert_eq!(text.lines().count(), 2 + 2 + 3, "a line a row\n{text}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_the_ranked_column_stays() {
        let long = ["/a/very/long/route/that/somebody/made/up/to/see/what/a/narrow/terminal/does/with/it", "/水/{id}"];
        for by in Order::ALL.map(Order::name) {
            for width in [60, 80, 120, 200] {
                for routes in [&ROUTES, &long] {
                    let text = table(&answer(by, routes), width);
                    let widest = text.lines().map(|line| line.width()).max().unwrap();
                    assert!(widest <= width, "{widest} of {width}:\n{text}");
                    assert!(head(&text).contains(&ranked_column(by)), "{by} at {width}:\n{text}");
                    assert_eq!(text.lines().count(), 2 + 2 + 3, "{text}");
                }
            }
        }
    }

    #[test]
    fn columns_go_before_the_endpoint_is_cut() {
        let at = |width| table(&answer("p95", &ROUTES), width);
        assert_eq!(
            head(&at(120)),
            ["#", "service", "endpoint", "requests", "errors", "err %", "4xx", "avg", "p50", "p95", "p99", "max"]
        );
        assert_eq!(head(&at(80)), ["#", "service", "endpoint", "requests", "errors", "p95", "p99"]);
        assert_eq!(head(&at(60)), ["#", "endpoint", "requests", "p95"]);
        for width in [60, 80, 120, 200] {
            assert!(at(width).contains("GET /checkout/{id}/shipping-options "), "{}", at(width));
        }
        let cut = table(&answer("p95", &ROUTES), 40);
        assert!(cut.lines().nth(2).is_some_and(|row| row.contains("GET /checkout") && row.contains('…')), "{cut}");
        assert!(cut.lines().take(4).all(|line| line.width() <= 40), "{cut}");
    }

    #[test]
    fn a_ranking_of_nothing_says_so() {
        assert!(table(&answer("p95", &[]), 80).contains("No requests in this window."));
    }
}
