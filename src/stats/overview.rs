//! Everything at once: totals over all endpoints, and by service.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::figures::{Figures, rounded};
use super::ranking::Total;
use super::{CacheState, Stats, StatsError, WindowRead};
use crate::domain::{Counters, PERCENTILE_ERROR, WindowRequest};
use crate::store::{EndpointFilter, Source, WindowTotals};

/// An overview asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OverviewQuery {
    /// The time.
    pub window: WindowRequest,
    /// The endpoints.
    pub filter: EndpointFilter,
}

/// Totals over all endpoints, and by service.
#[derive(Debug, Serialize, ToSchema)]
pub struct OverviewAnswer {
    /// The window, as it was read.
    pub window: WindowRead,
    /// Every record acknowledged before this instant is counted. UTC.
    pub data_through: DateTime<Utc>,
    /// How far a percentile may be from the exact value, relative to it: 0.044 is 4.4 %.
    pub percentile_error: f64,
    /// Whether the answer was made for this request (`miss`) or before (`hit`).
    pub cache: CacheState,
    /// All endpoints together.
    pub total: Total,
    /// Each service, busiest first.
    pub services: Vec<ServiceRow>,
}

/// One service.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceRow {
    /// Its name.
    pub service: String,
    /// What its endpoints come to.
    #[serde(flatten)]
    pub total: Total,
    /// Its share of all requests, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    pub share: f64,
}

impl Stats {
    /// The overview.
    ///
    /// # Errors
    /// [`StatsError`].
    pub async fn overview(&self, query: &OverviewQuery, source: Source) -> Result<OverviewAnswer, StatsError> {
        let now = self.now();
        let window = query.window.at(now)?;
        let found = self.store.endpoint_totals(&[window], &query.filter, source).await?;
        let through = found.through(now);
        let found = found.found.into_iter().next().unwrap_or_else(|| WindowTotals::empty(window));
        let seconds = found.seconds(through);

        let mut all = Counters::default();
        let mut services: BTreeMap<&str, (u64, Counters)> = BTreeMap::new();
        for (_, endpoint, counters) in &found.endpoints {
            all.merge(counters);
            let (endpoints, sum) = services.entry(endpoint.service.as_str()).or_default();
            *endpoints += 1;
            sum.merge(counters);
        }
        let mut services: Vec<(&str, (u64, Counters))> = services.into_iter().collect();
        services.sort_by(|(left_name, (_, left)), (right_name, (_, right))| {
            right.request_count.cmp(&left.request_count).then(left_name.cmp(right_name))
        });
        let total = |endpoints, counters: &Counters| Total { endpoints, figures: Figures::of(counters, seconds) };
        Ok(OverviewAnswer {
            window: WindowRead { from: found.from, to: found.to },
            data_through: through,
            percentile_error: PERCENTILE_ERROR,
            cache: CacheState::Miss,
            total: total(found.endpoints.len() as u64, &all),
            services: services
                .into_iter()
                .map(|(service, (endpoints, counters))| ServiceRow {
                    service: service.to_owned(),
                    share: rounded(counters.request_count as f64 / all.request_count.max(1) as f64, 6),
                    total: total(endpoints, &counters),
                })
                .collect(),
        })
    }
}
