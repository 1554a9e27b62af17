//! One endpoint: its figures, its course, its raw requests.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::{Object, ObjectBuilder, Type};

use super::figures::Figures;
use super::{CacheState, Named, Stats, StatsError, WindowRead};
use crate::domain::{Counters, EndpointId, PERCENTILE_ERROR, Step, Window, WindowRequest, Zone};
use crate::store::{EndpointFilter, RawOrder, Source};

/// The most steps of a series: the minutes of two days.
const MAX_STEPS: i64 = 2_900;

/// Figures of one endpoint asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointQuery {
    /// The endpoint.
    pub id: EndpointId,
    /// The time.
    pub window: WindowRequest,
}

/// The course of one endpoint asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SeriesQuery {
    /// The endpoint.
    pub id: EndpointId,
    /// The time; widened to whole steps.
    pub window: WindowRequest,
    /// The zone whose days steps of a day are.
    pub zone: Zone,
    /// The width of a step; `None`: one that gives some hundred.
    pub step: Option<Step>,
}

/// Raw requests of one endpoint asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestsQuery {
    /// The endpoint.
    pub id: EndpointId,
    /// The time.
    pub window: WindowRequest,
    /// Which come first.
    pub by: RawOrder,
    /// At most so many.
    pub limit: u32,
}

/// The figures of one endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub struct EndpointAnswer {
    /// The endpoint.
    #[serde(flatten)]
    pub endpoint: Named,
    /// The window, as it was read.
    pub window: WindowRead,
    /// Every record acknowledged before this instant is counted. UTC.
    pub data_through: DateTime<Utc>,
    /// How far a percentile may be from the exact value, relative to it: 0.044 is 4.4 %.
    pub percentile_error: f64,
    /// Whether the answer was made for this request (`miss`) or before (`hit`).
    pub cache: CacheState,
    /// The figures.
    #[serde(flatten)]
    pub figures: Figures,
    /// Requests answered 3xx.
    pub redirects: u64,
    /// Requests that came with a response time.
    pub timed_requests: u64,
}

/// The course of one endpoint: its figures step by step.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesAnswer {
    /// The endpoint.
    #[serde(flatten)]
    pub endpoint: Named,
    /// The window, whole steps.
    pub window: WindowRead,
    /// The time zone whose days were asked for.
    #[schema(examples("Europe/Berlin"))]
    pub tz: &'static str,
    /// The width of a step; where clocks change, a day has 23 or 25 hours.
    #[schema(schema_with = step)]
    pub step: &'static str,
    /// Every record acknowledged before this instant is counted. UTC.
    pub data_through: DateTime<Utc>,
    /// How far a percentile may be from the exact value, relative to it: 0.044 is 4.4 %.
    pub percentile_error: f64,
    /// Whether the answer was made for this request (`miss`) or before (`hit`).
    pub cache: CacheState,
    /// Every step that has begun, oldest first, those without requests too.
    pub points: Vec<Point>,
}

/// One step of a series.
#[derive(Debug, Serialize, ToSchema)]
pub struct Point {
    /// The beginning of the step. UTC.
    pub start: DateTime<Utc>,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
}

/// Raw requests of one endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub struct RequestsAnswer {
    /// The endpoint.
    #[serde(flatten)]
    pub endpoint: Named,
    /// The window.
    pub window: WindowRead,
    /// From when on single requests are kept; null: from the beginning.
    #[schema(required)]
    pub raw_since: Option<DateTime<Utc>>,
    /// Every record acknowledged before this instant was looked at. UTC.
    pub data_through: DateTime<Utc>,
    /// Whether the answer was made for this request (`miss`) or before (`hit`).
    pub cache: CacheState,
    /// The requests, in the order asked for.
    pub requests: Vec<RawRow>,
}

/// One request.
#[derive(Debug, Serialize, ToSchema)]
pub struct RawRow {
    /// When it finished, to the microsecond. UTC.
    pub timestamp: DateTime<Utc>,
    /// The HTTP status it was answered with.
    #[schema(minimum = 100, maximum = 599, examples(200))]
    pub status: u16,
    /// How long it took, milliseconds; null where the record did not say.
    #[schema(required)]
    pub response_time_ms: Option<f64>,
    /// The trace it belongs to; null where the record did not say.
    #[schema(required)]
    pub trace_id: Option<String>,
}

/// One of the widths there are.
fn step() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("The width of a step."))
        .enum_values(Some(Step::ALL.map(Step::name)))
        .build()
}

impl Stats {
    /// The figures of one endpoint.
    ///
    /// # Errors
    /// [`StatsError`].
    pub async fn endpoint(&self, query: &EndpointQuery, source: Source) -> Result<EndpointAnswer, StatsError> {
        let now = self.now();
        let window = query.window.at(now)?;
        let filter = EndpointFilter { id: Some(query.id), ..EndpointFilter::default() };
        let found = self.store.endpoint_totals(&[window], &filter, source).await?;
        let through = found.through(now);
        let found = found.found.into_iter().next().ok_or(StatsError::NoSuchEndpoint)?;
        let seconds = found.seconds(through);
        let (id, endpoint, counters) = found.endpoints.first().ok_or(StatsError::NoSuchEndpoint)?;
        Ok(EndpointAnswer {
            endpoint: Named::new(*id, endpoint),
            window: WindowRead { from: found.from, to: found.to },
            data_through: through,
            percentile_error: PERCENTILE_ERROR,
            cache: CacheState::Miss,
            figures: Figures::of(counters, seconds),
            redirects: counters.redirect_count,
            timed_requests: counters.timed_count,
        })
    }

    /// The course of one endpoint.
    ///
    /// # Errors
    /// [`StatsError`].
    pub async fn series(&self, query: &SeriesQuery, source: Source) -> Result<SeriesAnswer, StatsError> {
        let now = self.now();
        let asked = query.window.at(now)?;
        let step = query.step.unwrap_or_else(|| self.fitting_step(asked));
        // Whether a zone has days here is a matter of the time asked about, not of the step.
        let days = query.zone.days(asked)?;
        let of_days = step == Step::Day;
        let window = if of_days { days.window() } else { asked.widened_to(step) };
        let steps: Vec<Window> = if of_days {
            days.all().iter().map(|day| day.window).collect()
        } else {
            let count = (window.to() - window.from()).num_seconds() / step.length().num_seconds();
            if count > MAX_STEPS {
                return Err(StatsError::TooManySteps(count));
            }
            window.steps(step).collect()
        };
        let found = if of_days && !days.are_of_utc() {
            self.store.series_of_days(query.id, &days, source).await?
        } else {
            self.store.series(query.id, window, step, source).await?
        };
        let through = found.through(now);
        let found = found.found.ok_or(StatsError::NoSuchEndpoint)?;
        if let Some(since) = found.minutes_since.filter(|since| step < Step::Hour && window.from() < *since) {
            return Err(StatsError::FinerThanKept(since));
        }
        let nothing = Counters::default();
        let mut seen = found.points.iter().peekable();
        let mut points = Vec::with_capacity(steps.len());
        for step in steps {
            let start = step.from();
            // A step that has not begun is left out, unless a client with a fast clock has sent records of it.
            if start > through && seen.peek().is_none() {
                break;
            }
            let counters = seen.next_if(|point| point.start == start).map_or(&nothing, |point| &point.counters);
            points.push(Point { start, figures: Figures::of(counters, step.elapsed_seconds(through)) });
        }
        Ok(SeriesAnswer {
            endpoint: Named::new(query.id, &found.endpoint),
            window: window.into(),
            tz: query.zone.name(),
            step: step.name(),
            data_through: through,
            percentile_error: PERCENTILE_ERROR,
            cache: CacheState::Miss,
            points,
        })
    }

    /// Raw requests of one endpoint.
    ///
    /// # Errors
    /// [`StatsError`].
    pub async fn requests(&self, query: &RequestsQuery, source: Source) -> Result<RequestsAnswer, StatsError> {
        let now = self.now();
        let window = query.window.at(now)?;
        let found = self.store.raw_requests(query.id, window, query.by, query.limit, source).await?;
        let through = found.through(now);
        let found = found.found.ok_or(StatsError::NoSuchEndpoint)?;
        Ok(RequestsAnswer {
            endpoint: Named::new(query.id, &found.endpoint),
            window: window.into(),
            raw_since: found.raw_since,
            data_through: through,
            cache: CacheState::Miss,
            requests: found
                .requests
                .into_iter()
                .map(|request| RawRow {
                    timestamp: request.timestamp,
                    status: request.status,
                    response_time_ms: request.response_time_us.map(|us| us as f64 / 1_000.0),
                    trace_id: request.trace_id,
                })
                .collect(),
        })
    }

    /// The step that gives a window some hundred points, no finer than is kept.
    fn fitting_step(&self, window: Window) -> Step {
        let length = window.to() - window.from();
        let wanted = if length <= TimeDelta::hours(3) {
            Step::Minute
        } else if length <= TimeDelta::hours(25) {
            Step::FiveMinutes
        } else if length <= TimeDelta::days(32) {
            Step::Hour
        } else {
            Step::Day
        };
        match self.store.horizons().minutes_since {
            Some(since) if wanted < Step::Hour && Step::Hour.start(window.from()) < since => Step::Hour,
            _ => wanted,
        }
    }
}
