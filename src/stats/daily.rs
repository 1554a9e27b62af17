//! Days: the daily view, and what it does not say yet.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::figures::Figures;
use super::{CacheState, Named, Stats, StatsError, WindowRead, csv};
use crate::domain::{PERCENTILE_ERROR, Step, Window, WindowRequest};
use crate::store::{EndpointFilter, Source};

/// Days asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DailyQuery {
    /// The time; widened to whole UTC days.
    pub window: WindowRequest,
    /// The endpoints.
    pub filter: EndpointFilter,
    /// Rows at most.
    pub limit: u32,
}

/// Days, a row for each endpoint and UTC day.
#[derive(Debug, Serialize, ToSchema)]
pub struct DailyAnswer {
    /// The days, whole ones.
    pub window: WindowRead,
    /// Every record acknowledged before this instant is counted. UTC.
    pub data_through: DateTime<Utc>,
    /// How far a percentile may be from the exact value, relative to it: 0.044 is 4.4 %.
    pub percentile_error: f64,
    /// Whether the answer was made for this request (`miss`) or before (`hit`).
    pub cache: CacheState,
    /// A row a day and endpoint: newest day first, busiest endpoint first.
    pub rows: Vec<DailyAnswerRow>,
}

/// One endpoint's day.
#[derive(Debug, Serialize, ToSchema)]
pub struct DailyAnswerRow {
    /// UTC day.
    #[schema(examples("2026-11-20"))]
    pub day: NaiveDate,
    /// The endpoint.
    #[serde(flatten)]
    pub endpoint: Named,
    /// Its figures on that day.
    #[serde(flatten)]
    pub figures: Figures,
}

impl Stats {
    /// The days.
    ///
    /// # Errors
    /// [`StatsError`].
    pub async fn daily(&self, query: &DailyQuery, source: Source) -> Result<DailyAnswer, StatsError> {
        let now = self.now();
        let window = query.window.at(now)?.widened_to(Step::Day);
        let (from, to) = (window.from().date_naive(), window.to().date_naive());
        let found = self.store.daily(from, to, &query.filter, query.limit, source).await?;
        let through = found.through(now);
        let rows = found.found.rows.into_iter().map(|row| {
            let start = row.day.and_time(chrono::NaiveTime::MIN).and_utc();
            DailyAnswerRow {
                day: row.day,
                endpoint: Named::new(row.id, &row.endpoint),
                figures: Figures::of(&row.counters, Window::step(start, Step::Day).elapsed_seconds(through)),
            }
        });
        Ok(DailyAnswer {
            window: window.into(),
            data_through: through,
            percentile_error: PERCENTILE_ERROR,
            cache: CacheState::Miss,
            rows: rows.collect(),
        })
    }
}

impl DailyAnswer {
    /// The rows as CSV, a header first.
    #[must_use]
    pub fn to_csv(&self) -> Vec<u8> {
        let header: Vec<&str> = std::iter::once("day").chain(Named::COLUMNS).chain(Figures::COLUMNS).collect();
        let rows = self.rows.iter().map(|row| {
            let mut cells = vec![row.day.to_string()];
            cells.extend(row.endpoint.cells());
            cells.extend(row.figures.cells());
            cells
        });
        csv::table(&header, rows)
    }
}
