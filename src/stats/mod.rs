//! Questions and their answers: from a parsed query to finished bytes.
//!
//! Owns: ranking, the figures that answers are made of, their shapes as JSON and CSV. Uses: `store`, `cache`, `domain`.
//!
//! A ranking is made here, not in Postgres: one statement returns the counters of every endpoint over the window (some
//! hundreds of rows, whatever the history), and ranking them by any column, percentiles included, takes less than moving
//! the rows. So the order is over the whole window and every endpoint, never over a page of them.

mod csv;
mod daily;
mod endpoint;
mod figures;
mod overview;
mod question;
mod ranking;

use std::sync::Arc;

use chrono::{DateTime, SubsecRound as _, Utc};
use serde::Serialize;
use utoipa::ToSchema;

pub use daily::{DailyAnswer, DailyAnswerRow, DailyQuery, DayRead};
pub use endpoint::{
    EndpointAnswer, EndpointQuery, Point, RawRow, RequestsAnswer, RequestsQuery, SeriesAnswer, SeriesQuery,
};
pub use figures::Figures;
pub use overview::{OverviewAnswer, OverviewQuery, ServiceRow};
pub use question::{Answered, Asked, Question};
pub use ranking::{Previous, RankedRow, RankingAnswer, RankingQuery, Total};

use crate::cache::{Cache, Lifetime};
use crate::domain::{Clock, Endpoint, EndpointId, Freshness, InvalidWindow, OffTheHour, Window};
use crate::store::{Store, StoreError};

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `application/json`.
    Json,
    /// `text/csv`, a row an endpoint.
    Csv,
}

/// The time an answer is about: what was asked for, widened to what is kept (whole minutes, hours or days). UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Window)]
pub struct WindowRead {
    /// The first instant.
    #[schema(examples("2026-11-20T10:21:00Z"))]
    pub from: DateTime<Utc>,
    /// The first instant that is not in it; up to 5 minutes ahead, since clocks differ.
    #[schema(examples("2026-11-21T10:26:00Z"))]
    pub to: DateTime<Utc>,
}

impl From<Window> for WindowRead {
    fn from(window: Window) -> Self {
        Self { from: window.from(), to: window.to() }
    }
}

/// An endpoint: what is called, and at whom.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Endpoint)]
pub struct Named {
    /// Its number, for the paths below `/api/v1/endpoints/`. It never changes.
    #[schema(minimum = 1, examples(5))]
    pub id: i32,
    /// The service that answers; `unknown_service` where records did not say, `{other}` where there are too many.
    #[schema(examples("shop"))]
    pub service: String,
    /// The HTTP method.
    #[schema(examples("GET"))]
    pub method: &'static str,
    /// The route, its variable parts as placeholders; `{other}` where a service has too many.
    #[schema(examples("/items/{id}"))]
    pub route: String,
}

impl Named {
    fn new(id: EndpointId, endpoint: &Endpoint) -> Self {
        Self {
            id: id.0,
            service: endpoint.service.as_str().to_owned(),
            method: endpoint.method.as_str(),
            route: endpoint.route.as_str().to_owned(),
        }
    }

    /// The names of the fields, as columns of CSV.
    const COLUMNS: [&str; 4] = ["id", "service", "method", "route"];

    /// The fields in the order of [`COLUMNS`](Self::COLUMNS).
    fn cells(&self) -> [String; 4] {
        [self.id.to_string(), csv::text(&self.service), csv::text(self.method), csv::text(&self.route)]
    }
}

/// Whether an answer was made for this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CacheState {
    /// It was made before.
    Hit,
    /// It was made now.
    Miss,
    /// It was made before and is out of date: a new one is being made, or cannot be.
    Stale,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    /// There is no endpoint with this number.
    #[error("there is no such endpoint")]
    NoSuchEndpoint,
    /// The window is none.
    #[error("the window {0}")]
    InvalidWindow(#[from] InvalidWindow),
    /// Days were asked for that cannot be made of whole hours.
    #[error(transparent)]
    OffTheHour(#[from] OffTheHour),
    /// Steps shorter than an hour were asked for from a time for which only hours are kept.
    #[error("minutes are kept from {0} on")]
    FinerThanKept(DateTime<Utc>),
    /// More steps than an answer has room for.
    #[error("the window has {0} steps")]
    TooManySteps(i64),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Answers questions.
pub struct Stats {
    store: Arc<Store>,
    cache: Arc<Cache>,
    clock: Clock,
}

impl Stats {
    /// Answers from `store` and `cache`, taking windows relative to `clock`.
    #[must_use]
    pub fn new(store: Arc<Store>, cache: Arc<Cache>, clock: Clock) -> Self {
        Self { store, cache, clock }
    }

    /// How long answers may be kept by whoever gets them.
    #[must_use]
    pub fn lifetime(&self, freshness: Freshness) -> Lifetime {
        self.cache.lifetimes().of(freshness)
    }

    /// The caches.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The instant to which windows are relative, to the millisecond.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now().trunc_subsecs(3)
    }

    /// Moves when a closed day may read differently from before.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.store.generation()
    }
}
