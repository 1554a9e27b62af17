//! `top`: the ranking in the terminal.

use std::io::Write as _;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets};

use crate::cache::{Cache, CacheConfig};
use crate::config::DatabaseOptions;
use crate::domain::{Clock, Method, Order, Service, Span, WindowRequest};
use crate::stats::{Format, Question, RankingAnswer, RankingQuery, Stats};
use crate::store::{EndpointFilter, Store};

/// The form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    Table,
    Json,
    Csv,
}

#[derive(Args)]
pub(super) struct TopCommand {
    /// The column: requests, errors, error_rate, client_errors, avg, p50, p95, p99, max, total_time
    #[arg(long, default_value = "requests", value_parser = order, value_name = "COLUMN")]
    by: Order,

    /// How far back: 15m to 400d
    #[arg(long, default_value = "24h", value_parser = span, value_name = "TIME")]
    window: Span,

    /// Rows at most
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000), value_name = "N")]
    limit: u32,

    /// Form of the output
    #[arg(long, default_value = "table", value_name = "FORM")]
    format: OutputFormat,

    /// Only this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,

    /// Only this method
    #[arg(long, value_name = "NAME")]
    method: Option<String>,

    /// Only routes with this in them
    #[arg(long, value_name = "TEXT")]
    route: Option<String>,

    /// Only endpoints with at least this many requests
    #[arg(long, default_value_t = 0, value_name = "N")]
    min_requests: u64,

    #[command(flatten)]
    database: DatabaseOptions,
}

fn order(name: &str) -> Result<Order, String> {
    name.parse().map_err(|()| format!("must be one of {}", Order::names()))
}

fn span(text: &str) -> Result<Span, String> {
    text.parse().map_err(|error: crate::domain::InvalidWindow| error.to_string())
}

impl TopCommand {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let query = RankingQuery {
            by: self.by,
            window: WindowRequest::Last(self.window),
            limit: self.limit,
            filter: EndpointFilter {
                service: self.service.as_deref().map(Service::parse).transpose()?,
                method: self.method.as_deref().map(Method::parse).transpose()?,
                route: self.route,
                id: None,
            },
            min_requests: self.min_requests,
            compare_previous: false,
        };
        let store = Arc::new(Store::new(&self.database.store()?)?);
        let stats = Stats::new(store, Cache::new(&CacheConfig::default())?, Clock::system());
        let text = match self.format {
            OutputFormat::Table => format!("{}\n", table(&stats.ranking(&query).await?)).into_bytes(),
            OutputFormat::Csv => stats.ask(&Question::Ranking(query, Format::Csv), true).await?.body.to_vec(),
            OutputFormat::Json => {
                let mut body = stats.ask(&Question::Ranking(query, Format::Json), true).await?.body.to_vec();
                body.push(b'\n');
                body
            }
        };
        std::io::stdout().write_all(&text)?;
        Ok(())
    }
}

/// The ranking as a table as wide as the terminal.
pub(super) fn table(answer: &RankingAnswer) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    if !table.is_tty() {
        table.set_width(120);
    }
    let columns = [
        "#", "service", "endpoint", "requests", "per s", "errors", "4xx", "avg ms", "p50", "p95", "p99", "max", "share",
    ];
    table.set_header(columns.map(|column| Cell::new(column).add_attribute(Attribute::Bold)));
    for index in [0].into_iter().chain(3..columns.len()) {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for row in &answer.rows {
        let figures = &row.figures;
        table.add_row([
            row.rank.to_string(),
            printable(&row.service),
            format!("{} {}", row.method, printable(&row.route)),
            grouped(figures.requests),
            format!("{:.2}", figures.requests_per_second),
            percent(figures.error_rate),
            grouped(figures.client_errors),
            ms(figures.avg_ms),
            ms(figures.p50_ms),
            ms(figures.p95_ms),
            ms(figures.p99_ms),
            ms(figures.max_ms),
            percent(Some(row.share)),
        ]);
    }
    let total = &answer.total;
    format!(
        "{table}\n{} requests to {} endpoints from {} to {} (UTC), by {}",
        grouped(total.figures.requests),
        grouped(total.endpoints),
        answer.window.from.format("%Y-%m-%d %H:%M"),
        answer.window.to.format("%Y-%m-%d %H:%M"),
        answer.by,
    )
}

/// A client's text without what a terminal would obey.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
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

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.2}%", share * 100.0))
}

/// Thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1_000, 12_345_678].map(grouped), ["0", "999", "1,000", "12,345,678"]);
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_printed() {
        assert_eq!(printable("/a\u{1b}[2J\n"), "/a\u{fffd}[2J\u{fffd}");
    }
}
