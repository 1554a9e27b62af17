//! The top endpoints by any column.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::{Object, ObjectBuilder, Type};

use super::figures::{Figures, rounded};
use super::{CacheState, Named, Stats, StatsError, WindowRead, csv};
use crate::domain::{Counters, Endpoint, EndpointId, Order, PERCENTILE_ERROR, Window, WindowRequest, Zone};
use crate::store::{EndpointFilter, Source, WindowTotals};

/// A ranking asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RankingQuery {
    /// The column.
    pub by: Order,
    /// The time.
    pub window: WindowRequest,
    /// The zone whose days the time was told in.
    pub zone: Zone,
    /// Rows at most.
    pub limit: u32,
    /// The endpoints.
    pub filter: EndpointFilter,
    /// Only endpoints with at least this many requests.
    pub min_requests: u64,
    /// Whether each row also tells the period before.
    pub compare_previous: bool,
}

/// A ranking of endpoints.
#[derive(Debug, Serialize, ToSchema)]
pub struct RankingAnswer {
    /// The column the rows are ordered by.
    #[schema(schema_with = order)]
    pub by: &'static str,
    /// The window, as it was read.
    pub window: WindowRead,
    /// The time zone whose days were asked for.
    #[schema(examples("Europe/Berlin"))]
    pub tz: &'static str,
    /// The window compared with, if asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_window: Option<WindowRead>,
    /// Every record acknowledged before this instant is counted. UTC.
    pub data_through: DateTime<Utc>,
    /// How far a percentile may be from the exact value, relative to it: 0.044 is 4.4 %.
    pub percentile_error: f64,
    /// Whether the answer was made for this request (`miss`) or before (`hit`).
    pub cache: CacheState,
    /// All endpoints that match, those beyond the limit too.
    pub total: Total,
    /// The endpoints, the largest value of the column first; ties by `id`.
    pub rows: Vec<RankedRow>,
}

/// What all endpoints that match come to.
#[derive(Debug, Serialize, ToSchema)]
pub struct Total {
    /// How many they are.
    pub endpoints: u64,
    /// Their figures together.
    #[serde(flatten)]
    pub figures: Figures,
}

/// One endpoint's row of a ranking.
#[derive(Debug, Serialize, ToSchema)]
pub struct RankedRow {
    /// Its place, from 1.
    #[schema(minimum = 1)]
    pub rank: u64,
    /// The endpoint.
    #[serde(flatten)]
    pub endpoint: Named,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
    /// Its share, 0 to 1, of the ranked column's total; of all requests where the column does not add up.
    #[schema(minimum = 0, maximum = 1)]
    pub share: f64,
    /// The period before; null where the endpoint saw no request then. Left out unless asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Previous>, required = false)]
    pub previous: Option<Option<Previous>>,
}

/// An endpoint in the period before.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Previous {
    /// Its place then.
    #[schema(minimum = 1)]
    pub rank: u64,
    /// Its figures then.
    #[serde(flatten)]
    pub figures: Figures,
}

/// One of the columns there are.
fn order() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("The column the rows are ordered by."))
        .enum_values(Some(Order::ALL.map(Order::name)))
        .build()
}

impl Stats {
    /// The ranking.
    ///
    /// # Errors
    /// [`StatsError`].
    pub async fn ranking(&self, query: &RankingQuery, source: Source) -> Result<RankingAnswer, StatsError> {
        let now = self.now();
        let window = query.window.at(now)?;
        // Whether a zone has days here is a matter of the time asked about, not of how it was written.
        query.zone.days(window)?;
        let windows: Vec<Window> =
            std::iter::once(window).chain(query.compare_previous.then(|| window.previous(now))).collect();
        let totals = self.store.endpoint_totals(&windows, &query.filter, source).await?;
        let through = totals.through(now);
        let mut totals = totals.found.into_iter();
        let current = totals.next().unwrap_or_else(|| WindowTotals::empty(window));
        Ok(answer(query, current, totals.next(), through))
    }
}

fn answer(
    query: &RankingQuery,
    current: WindowTotals,
    previous: Option<WindowTotals>,
    through: DateTime<Utc>,
) -> RankingAnswer {
    let seconds = current.seconds(through);
    let window = WindowRead { from: current.from, to: current.to };
    let previous_window = previous.as_ref().map(|previous| WindowRead { from: previous.from, to: previous.to });
    let mut before = previous.map(|previous| {
        let seconds = previous.seconds(through);
        let figures = |(rank, (id, _, counters)): (u64, Ranked)| {
            (id, Previous { rank, figures: Figures::of(&counters, seconds) })
        };
        (1..).zip(ranked(previous.endpoints, query)).map(figures).collect::<HashMap<_, _>>()
    });

    let ranked = ranked(current.endpoints, query);
    let mut total = Counters::default();
    ranked.iter().for_each(|(_, _, counters)| total.merge(counters));
    let total_requests = total.request_count as f64;
    let share = |counters: &Counters| {
        let (part, whole) = match query.by {
            Order::Errors => (counters.error_count as f64, total.error_count as f64),
            Order::ClientErrors => (counters.client_error_count as f64, total.client_error_count as f64),
            Order::TotalTime => (counters.total_time_ms(), total.total_time_ms()),
            _ => (counters.request_count as f64, total_requests),
        };
        if whole > 0.0 { rounded(part / whole, 6) } else { 0.0 }
    };
    let endpoints = ranked.len() as u64;
    let rows = (1..)
        .zip(ranked.into_iter().take(query.limit as usize))
        .map(|(rank, (id, endpoint, counters))| RankedRow {
            rank,
            endpoint: Named::new(id, &endpoint),
            figures: Figures::of(&counters, seconds),
            share: share(&counters),
            previous: before.as_mut().map(|before| before.remove(&id)),
        })
        .collect();
    RankingAnswer {
        by: query.by.name(),
        window,
        tz: query.zone.name(),
        previous_window,
        data_through: through,
        percentile_error: PERCENTILE_ERROR,
        cache: CacheState::Miss,
        total: Total { endpoints, figures: Figures::of(&total, seconds) },
        rows,
    }
}

type Ranked = (EndpointId, Endpoint, Counters);

/// Every endpoint with enough requests, best first. Ties break by number, so pages are stable.
fn ranked(endpoints: Vec<Ranked>, query: &RankingQuery) -> Vec<Ranked> {
    let mut keyed: Vec<(Option<f64>, Ranked)> = endpoints
        .into_iter()
        .filter(|(_, _, counters)| counters.request_count >= query.min_requests.max(1))
        .map(|endpoint| (query.by.value(&endpoint.2), endpoint))
        .collect();
    keyed.sort_by(|(left, (left_id, ..)), (right, (right_id, ..))| {
        Order::compare(*left, *right).then(left_id.cmp(right_id))
    });
    keyed.into_iter().map(|(_, endpoint)| endpoint).collect()
}

impl RankingAnswer {
    /// The rows as CSV, a header first.
    #[must_use]
    pub fn to_csv(&self) -> Vec<u8> {
        let previous_columns: Vec<String> = if self.previous_window.is_some() {
            std::iter::once("rank").chain(Figures::COLUMNS).map(|column| format!("previous_{column}")).collect()
        } else {
            Vec::new()
        };
        let header: Vec<&str> = std::iter::once("rank")
            .chain(Named::COLUMNS)
            .chain(Figures::COLUMNS)
            .chain(["share"])
            .chain(previous_columns.iter().map(String::as_str))
            .collect();
        let rows = self.rows.iter().map(|row| {
            let mut cells = vec![row.rank.to_string()];
            cells.extend(row.endpoint.cells());
            cells.extend(row.figures.cells());
            cells.push(row.share.to_string());
            match &row.previous {
                Some(Some(previous)) => {
                    cells.push(previous.rank.to_string());
                    cells.extend(previous.figures.cells());
                }
                Some(None) => cells.extend(previous_columns.iter().map(|_| String::new())),
                None => {}
            }
            cells
        });
        csv::table(&header, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Method, Route, Service};

    fn query(by: Order) -> RankingQuery {
        RankingQuery {
            by,
            window: WindowRequest::Last("1h".parse().unwrap()),
            zone: Zone::UTC,
            limit: 10,
            filter: EndpointFilter::default(),
            min_requests: 0,
            compare_previous: false,
        }
    }

    fn endpoint(id: i32, requests: u64, us: u64) -> Ranked {
        let mut counters = Counters::default();
        (0..requests).for_each(|_| counters.add(200, Some(us)));
        let endpoint = Endpoint {
            service: Service::unknown(),
            method: Method::parse("GET").unwrap(),
            route: Route::parse(&format!("/{id}")).unwrap(),
        };
        (EndpointId(id), endpoint, counters)
    }

    fn ids(ranked: Vec<Ranked>) -> Vec<i32> {
        ranked.into_iter().map(|(id, ..)| id.0).collect()
    }

    #[test]
    fn ties_break_by_number() {
        let endpoints = vec![endpoint(3, 5, 10), endpoint(1, 5, 10), endpoint(2, 9, 10)];
        assert_eq!(ids(ranked(endpoints, &query(Order::Requests))), [2, 1, 3]);
    }

    #[test]
    fn too_few_for_a_percentile_rank_behind_all_others() {
        let endpoints = vec![endpoint(1, 19, 900_000), endpoint(2, 20, 10), endpoint(3, 20, 5_000)];
        assert_eq!(ids(ranked(endpoints, &query(Order::P95))), [3, 2, 1]);
    }

    #[test]
    fn the_limit_cuts_rows_and_not_the_total() {
        let now: DateTime<Utc> = "2026-11-21T10:00:00Z".parse().unwrap();
        let window = WindowRequest::Last("1h".parse().unwrap()).at(now).unwrap();
        let mut totals = WindowTotals::empty(window);
        totals.endpoints = (1..=5).map(|id| endpoint(id, 10, 10)).collect();
        let answer = answer(&RankingQuery { limit: 2, ..query(Order::Requests) }, totals, None, now);
        assert_eq!((answer.rows.len(), answer.total.endpoints, answer.total.figures.requests), (2, 5, 50));
        assert_eq!(answer.rows[0].share, 0.2);
    }
}
