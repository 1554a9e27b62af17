//! Days: of UTC from the daily view and what it does not say yet, of any other zone from the hours.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::figures::Figures;
use super::{CacheState, Named, Stats, StatsError, WindowRead, csv};
use crate::domain::{Day, PERCENTILE_ERROR, WindowRequest, Zone};
use crate::store::{EndpointFilter, Source};

/// Days asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DailyQuery {
    /// The time; widened to whole days.
    pub window: WindowRequest,
    /// The zone whose days they are.
    pub zone: Zone,
    /// The endpoints.
    pub filter: EndpointFilter,
    /// Rows at most.
    pub limit: u32,
}

/// Days, a row for each endpoint and day.
#[derive(Debug, Serialize, ToSchema)]
pub struct DailyAnswer {
    /// The days, whole ones.
    pub window: WindowRead,
    /// The time zone whose days they are.
    #[schema(examples("Europe/Berlin"))]
    pub tz: &'static str,
    /// Every record acknowledged before this instant is counted. UTC.
    pub data_through: DateTime<Utc>,
    /// How far a percentile may be from the exact value, relative to it: 0.044 is 4.4 %.
    pub percentile_error: f64,
    /// Whether the answer was made for this request (`miss`) or before (`hit`).
    pub cache: CacheState,
    /// Each day of the window, oldest first, and when it began and ended.
    pub days: Vec<DayRead>,
    /// A row a day and endpoint: newest day first, busiest endpoint first.
    pub rows: Vec<DailyAnswerRow>,
}

/// A day and its bounds. Where clocks change it has 23 or 25 hours.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Day)]
pub struct DayRead {
    /// The day, as calendars of the time zone say it.
    #[schema(examples("2026-11-20"))]
    pub day: NaiveDate,
    /// Its first instant. UTC.
    #[schema(examples("2026-11-19T23:00:00Z"))]
    pub from: DateTime<Utc>,
    /// The first instant that is not in it. UTC.
    #[schema(examples("2026-11-20T23:00:00Z"))]
    pub to: DateTime<Utc>,
}

impl From<&Day> for DayRead {
    fn from(day: &Day) -> Self {
        Self { day: day.date, from: day.window.from(), to: day.window.to() }
    }
}

/// One endpoint's day.
#[derive(Debug, Serialize, ToSchema)]
pub struct DailyAnswerRow {
    /// The day, one of `days`.
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
        let days = query.zone.days(query.window.at(now)?)?;
        let found = self.store.daily(&days, &query.filter, query.limit, source).await?;
        let through = found.through(now);
        let rows = found.found.rows.into_iter().map(|row| DailyAnswerRow {
            day: row.day.date,
            endpoint: Named::new(row.id, &row.endpoint),
            figures: Figures::of(&row.counters, row.day.window.elapsed_seconds(through)),
        });
        Ok(DailyAnswer {
            window: days.window().into(),
            tz: query.zone.name(),
            days: days.all().iter().map(DayRead::from).collect(),
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
