//! `top`: the ranking in the terminal.

use std::io::Write as _;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::table;
use crate::cache::{Cache, CacheConfig, Namespace};
use crate::config::DatabaseOptions;
use crate::domain::{Clock, Method, Order, Service, Span, WindowRequest, Zone};
use crate::stats::{Format, Question, RankingQuery, Stats};
use crate::store::{EndpointFilter, Source, Store, schema_version};

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

    /// How far back: 1m to 400d
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
            zone: Zone::UTC,
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
        let stats = Stats::new(
            store,
            Arc::new(Cache::new(&CacheConfig::default(), Namespace::new(schema_version(), ""))?),
            Clock::system(),
        );
        let text = match self.format {
            OutputFormat::Table => {
                format!("{}\n", table::table(&stats.ranking(&query, Source::Primary).await?, table::width()))
                    .into_bytes()
            }
            OutputFormat::Csv => {
                stats.ask(&Question::Ranking(query, Format::Csv).into(), true).await?.body.plain().to_vec()
            }
            OutputFormat::Json => {
                let mut body =
                    stats.ask(&Question::Ranking(query, Format::Json).into(), true).await?.body.plain().to_vec();
                body.push(b'\n');
                body
            }
        };
        std::io::stdout().write_all(&text)?;
        Ok(())
    }
}

/// Thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
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
}
