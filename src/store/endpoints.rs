//! Numbers of endpoints.

use std::collections::HashMap;

use sqlx::{Acquire as _, Row as _};

use super::{ANSWER, Store, StoreError, rows, sql, within};
use crate::domain::{Endpoint, EndpointId};

/// How many endpoints there may be.
#[derive(Debug, Clone, Copy)]
pub struct EndpointCaps {
    /// Endpoints a service, `{other}` not counted.
    pub per_service: u32,
    /// Services, `{other}` not counted.
    pub services: u32,
}

impl Store {
    /// The numbers of `wanted`, which has no repeats; those met for the first time are made as long as there is room. What
    /// does not come back found none.
    ///
    /// # Errors
    /// [`StoreError`]; new endpoints may have been made all the same, which does no harm.
    pub async fn register_endpoints(
        &self,
        wanted: &[Endpoint],
        caps: EndpointCaps,
    ) -> Result<HashMap<Endpoint, EndpointId>, StoreError> {
        let services: Vec<&str> = wanted.iter().map(|endpoint| endpoint.service.as_str()).collect();
        let methods: Vec<&str> = wanted.iter().map(|endpoint| endpoint.method.as_str()).collect();
        let routes: Vec<&str> = wanted.iter().map(|endpoint| endpoint.route.as_str()).collect();

        let mut lease = self.lease().await?;
        let mut transaction = within(ANSWER, lease.connection().begin()).await?;
        // Held until the commit: two replicas that count the room at once would both find it.
        within(ANSWER, sqlx::query(sql::LOCK.sql).bind("endpoints").execute(&mut *transaction)).await?;
        let found = within(
            ANSWER,
            sqlx::query(sql::REGISTER_ENDPOINTS.sql)
                .bind(services)
                .bind(methods)
                .bind(routes)
                .bind(i64::from(caps.per_service))
                .bind(i64::from(caps.services))
                .fetch_all(&mut *transaction),
        )
        .await?;
        within(ANSWER, transaction.commit()).await?;
        lease.give_back();

        found.iter().map(|row| Ok((rows::endpoint(row)?, EndpointId(row.try_get("id")?)))).collect()
    }
}
