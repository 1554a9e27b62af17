//! What is read: each question one statement, so one snapshot.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::{ANSWER, Dated, Source, Store, StoreError, rows, sql, within};
use crate::domain::{Counters, Day, Days, Endpoint, EndpointId, Method, Service, Step, Window, elapsed_seconds};

/// Which endpoints a question is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct EndpointFilter {
    /// Of this service.
    pub service: Option<Service>,
    /// With this method.
    pub method: Option<Method>,
    /// With this in their route, in any case.
    pub route: Option<String>,
    /// This one.
    pub id: Option<EndpointId>,
}

/// The counters of every endpoint over a window.
#[derive(Debug)]
pub struct WindowTotals {
    /// Beginning of the window as read: a full hour where minutes are no longer kept.
    pub from: DateTime<Utc>,
    /// Its end.
    pub to: DateTime<Utc>,
    /// Each endpoint that saw requests, in no order; and the one asked for by number, even if it saw none.
    pub endpoints: Vec<(EndpointId, Endpoint, Counters)>,
}

impl WindowTotals {
    /// No endpoint at all.
    #[must_use]
    pub fn empty(window: Window) -> Self {
        Self { from: window.from(), to: window.to(), endpoints: Vec::new() }
    }

    /// The seconds of the window that have passed at `now`; at least a minute.
    #[must_use]
    pub fn seconds(&self, now: DateTime<Utc>) -> f64 {
        elapsed_seconds(self.from, self.to, now)
    }
}

/// One endpoint in steps.
#[derive(Debug)]
pub struct Series {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// From when on minutes are kept; `None`: from the beginning.
    pub minutes_since: Option<DateTime<Utc>>,
    /// The steps that saw requests, oldest first.
    pub points: Vec<SeriesPoint>,
}

/// One step.
#[derive(Debug)]
pub struct SeriesPoint {
    /// Its beginning.
    pub start: DateTime<Utc>,
    /// What happened in it.
    pub counters: Counters,
}

/// Which raw requests come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RawOrder {
    /// The newest.
    Newest,
    /// The slowest.
    Slowest,
    /// The newest of those answered 5xx.
    Failed,
}

/// Raw requests of one endpoint.
#[derive(Debug)]
pub struct RawRequests {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// From when on raw requests are kept; `None`: from the beginning.
    pub raw_since: Option<DateTime<Utc>>,
    /// The requests.
    pub requests: Vec<RawRequest>,
}

/// One request.
#[derive(Debug)]
pub struct RawRequest {
    /// When it finished.
    pub timestamp: DateTime<Utc>,
    /// Its status.
    pub status: u16,
    /// How long it took, microseconds.
    pub response_time_us: Option<u64>,
    /// The trace it belongs to.
    pub trace_id: Option<String>,
}

/// Days, a row an endpoint.
#[derive(Debug)]
pub struct Daily {
    /// Newest day first, busiest endpoint first.
    pub rows: Vec<DailyRow>,
}

/// One endpoint's day.
#[derive(Debug)]
pub struct DailyRow {
    /// The day.
    pub day: Day,
    /// Number of the endpoint.
    pub id: EndpointId,
    /// The endpoint.
    pub endpoint: Endpoint,
    /// What happened.
    pub counters: Counters,
}

impl Store {
    /// The counters of the endpoints picked over each window, all as of one instant.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoint_totals(
        &self,
        windows: &[Window],
        filter: &EndpointFilter,
        source: Source,
    ) -> Result<Dated<Vec<WindowTotals>>, StoreError> {
        let from: Vec<DateTime<Utc>> = windows.iter().map(|window| window.from()).collect();
        let to: Vec<DateTime<Utc>> = windows.iter().map(|window| window.to()).collect();
        let query = || filtered(sqlx::query(sql::ENDPOINT_TOTALS.sql).bind(from.clone()).bind(to.clone()), filter);
        let known = |found: &[PgRow]| filter.id.is_none() || names_an_endpoint(found);
        let found = self.fetch_all(source, query, known).await?;
        Ok(found.try_map(|found| totals(&found))?)
    }

    /// The counters of the endpoints picked by day; at most `limit` rows. Days of UTC come from the daily view where it
    /// speaks, those of another zone from the hours.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn daily(
        &self,
        days: &Days,
        filter: &EndpointFilter,
        limit: u32,
        source: Source,
    ) -> Result<Dated<Daily>, StoreError> {
        let (of_utc, window) = (days.are_of_utc(), days.window());
        let query = || {
            let query = if of_utc {
                sqlx::query(sql::DAILY.sql).bind(window.from().date_naive()).bind(window.to().date_naive())
            } else {
                sqlx::query(sql::DAILY_OF_ZONE.sql).bind(days.bounds())
            };
            filtered(query, filter).bind(i64::from(limit))
        };
        let day = |row: &PgRow| {
            Ok(DailyRow {
                day: if of_utc { day_on(days, row)? } else { numbered_day(days, row)? },
                id: EndpointId(row.try_get("endpoint_id")?),
                endpoint: rows::endpoint(row)?,
                counters: rows::counters(row)?,
            })
        };
        let found = self.fetch_all(source, query, |_| true).await?;
        let daily = |found: Vec<PgRow>| Ok(Daily { rows: found.iter().map(day).collect::<Result<_, sqlx::Error>>()? });
        found.try_map(daily)
    }

    /// One endpoint over `window`, which is made of whole steps; `None` if there is no such endpoint. Steps shorter than an
    /// hour come from the minutes, so they say nothing of the time before [`Series::minutes_since`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn series(
        &self,
        id: EndpointId,
        window: Window,
        step: Step,
        source: Source,
    ) -> Result<Dated<Option<Series>>, StoreError> {
        let statement = if step < Step::Hour { sql::SERIES_MINUTES } else { sql::SERIES_HOURS };
        let query = || sqlx::query(statement.sql).bind(id.0).bind(window.from()).bind(window.to()).bind(step.length());
        let found = self.fetch_all(source, query, names_an_endpoint).await?;
        Ok(found.try_map(|found| series(&found))?)
    }

    /// One endpoint by `days`, from the hours; `None` if there is no such endpoint.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn series_of_days(
        &self,
        id: EndpointId,
        days: &Days,
        source: Source,
    ) -> Result<Dated<Option<Series>>, StoreError> {
        let query = || sqlx::query(sql::SERIES_OF_DAYS.sql).bind(id.0).bind(days.bounds());
        let found = self.fetch_all(source, query, names_an_endpoint).await?;
        Ok(found.try_map(|found| series(&found))?)
    }

    /// At most `limit` raw requests of one endpoint; `None` if there is no such endpoint.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn raw_requests(
        &self,
        id: EndpointId,
        window: Window,
        order: RawOrder,
        limit: u32,
        source: Source,
    ) -> Result<Dated<Option<RawRequests>>, StoreError> {
        let asked = async |shortened: bool| {
            let query = || {
                let of = |sql| sqlx::query(sql).bind(id.0).bind(window.from()).bind(window.to()).bind(i64::from(limit));
                match order {
                    RawOrder::Slowest => of(sql::REQUESTS_SLOWEST.sql),
                    RawOrder::Newest => of(sql::REQUESTS_NEWEST.sql).bind(shortened).bind(false),
                    RawOrder::Failed => of(sql::REQUESTS_NEWEST.sql).bind(shortened).bind(true),
                }
            };
            self.fetch_all(source, query, |found: &[PgRow]| !found.is_empty()).await
        };
        let found = asked(true).await?;
        // Fewer than the rollups promised: somebody has removed raw requests by hand, and there may be older ones.
        let is_request =
            |row: &&PgRow| row.try_get::<Option<DateTime<Utc>>, _>("timestamp").is_ok_and(|at| at.is_some());
        let cut_short = found.found.iter().filter(is_request).count() < limit as usize
            && found.found.first().is_some_and(|row| row.try_get("shortened").unwrap_or(false));
        let found = if cut_short { asked(false).await? } else { found };
        Ok(found.try_map(|found| raw_requests(&found))?)
    }

    /// Where the replica does not know the endpoint asked for, as `known` tells from its rows, the primary may: it is new.
    async fn fetch_all<'q>(
        &self,
        source: Source,
        query: impl Fn() -> Query<'q>,
        known: impl Fn(&[PgRow]) -> bool,
    ) -> Result<Dated<Vec<PgRow>>, StoreError> {
        if let (Source::ReplicaIfGood, Some(replica)) = (source, &self.replica)
            && let Some((found, as_of)) = replica.fetch_all(query(), self.generation()).await
            && known(&found)
        {
            return Ok(Dated { found, as_of: Some(as_of) });
        }
        let mut lease = self.lease().await?;
        let found = within(ANSWER, query().fetch_all(lease.connection())).await?;
        lease.give_back();
        Ok(Dated { found, as_of: None })
    }
}

fn names_an_endpoint(found: &[PgRow]) -> bool {
    found.first().is_some_and(|row| row.try_get::<Option<i32>, _>("endpoint_id").is_ok_and(|id| id.is_some()))
}

/// The day whose date a row says.
fn day_on(days: &Days, row: &PgRow) -> Result<Day, sqlx::Error> {
    let date: NaiveDate = row.try_get("day")?;
    days.on(date).copied().ok_or_else(|| sqlx::Error::Decode(format!("{date} was not asked for").into()))
}

/// The day whose number a row says.
fn numbered_day(days: &Days, row: &PgRow) -> Result<Day, sqlx::Error> {
    let number: i64 = row.try_get("ordinal")?;
    let day = usize::try_from(number).ok().and_then(|number| days.numbered(number)).copied();
    day.ok_or_else(|| sqlx::Error::Decode(format!("day {number} was not asked for").into()))
}

fn totals(found: &[PgRow]) -> Result<Vec<WindowTotals>, sqlx::Error> {
    let mut totals: Vec<WindowTotals> = Vec::new();
    for row in found {
        let ordinal: i64 = row.try_get("ordinal")?;
        if totals.len() < usize::try_from(ordinal).unwrap_or(usize::MAX) {
            let (from, to) = (row.try_get("window_from")?, row.try_get("window_to")?);
            totals.push(WindowTotals { from, to, endpoints: Vec::new() });
        }
        let (Some((id, endpoint)), Some(total)) = (rows::numbered_endpoint(row)?, totals.last_mut()) else {
            continue;
        };
        total.endpoints.push((id, endpoint, counters_if_any(row)?.unwrap_or_default()));
    }
    Ok(totals)
}

fn series(found: &[PgRow]) -> Result<Option<Series>, sqlx::Error> {
    let Some(first) = found.first() else { return Ok(None) };
    let Some((_, endpoint)) = rows::numbered_endpoint(first)? else { return Ok(None) };
    let mut points = Vec::with_capacity(found.len());
    for row in found {
        if let Some(counters) = counters_if_any(row)? {
            points.push(SeriesPoint { start: row.try_get("step")?, counters });
        }
    }
    Ok(Some(Series { endpoint, minutes_since: first.try_get("minutes_since")?, points }))
}

fn raw_requests(found: &[PgRow]) -> Result<Option<RawRequests>, sqlx::Error> {
    let Some(first) = found.first() else { return Ok(None) };
    let mut requests = Vec::with_capacity(found.len());
    for row in found {
        if let Some(timestamp) = row.try_get("timestamp")? {
            requests.push(RawRequest {
                timestamp,
                status: row.try_get::<i16, _>("status")?.unsigned_abs(),
                response_time_us: row.try_get::<Option<i64>, _>("response_time_us")?.map(i64::unsigned_abs),
                trace_id: row.try_get("trace_id")?,
            });
        }
    }
    Ok(Some(RawRequests { endpoint: rows::endpoint(first)?, raw_since: first.try_get("raw_since")?, requests }))
}

pub(super) type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

fn filtered<'q>(query: Query<'q>, filter: &'q EndpointFilter) -> Query<'q> {
    query
        .bind(filter.service.as_ref().map(Service::as_str))
        .bind(filter.method.map(Method::as_str))
        .bind(filter.route.as_deref())
        .bind(filter.id.map(|id| id.0))
}

/// The counters of a row that may have none, its requests being NULL.
fn counters_if_any(row: &PgRow) -> Result<Option<Counters>, sqlx::Error> {
    match row.try_get::<Option<i64>, _>("request_count")? {
        Some(_) => rows::counters(row).map(Some),
        None => Ok(None),
    }
}
