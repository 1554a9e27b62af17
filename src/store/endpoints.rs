//! Numbers of endpoints.

use std::collections::HashMap;

use sqlx::postgres::PgRow;
use sqlx::{Acquire as _, Row as _};

use super::{ANSWER, Store, StoreError, rows, sql, within};
use crate::domain::{Endpoint, EndpointId, Service};

/// How many endpoints there may be.
#[derive(Debug, Clone, Copy)]
pub struct EndpointCaps {
    /// Endpoints a service, `{other}` not counted.
    pub per_service: u32,
    /// Services, `{other}` not counted.
    pub services: u32,
    /// Endpoints of all services, `{other}` not counted: what a process must remember and a ranking must read.
    pub total: u32,
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
                .bind(i64::from(caps.total))
                .fetch_all(&mut *transaction),
        )
        .await?;
        within(ANSWER, transaction.commit()).await?;
        lease.give_back();

        numbered(&found)
    }

    /// Every endpoint of a service.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoints_of(&self, service: &Service) -> Result<HashMap<Endpoint, EndpointId>, StoreError> {
        let query = sqlx::query(sql::ENDPOINTS_OF_SERVICE.sql).bind(service.as_str());
        let mut lease = self.lease().await?;
        let found = within(ANSWER, query.fetch_all(lease.connection())).await?;
        lease.give_back();
        numbered(&found)
    }

    /// Every service.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn services(&self) -> Result<Vec<Service>, StoreError> {
        let mut lease = self.lease().await?;
        let found = within(ANSWER, sqlx::query(sql::SERVICES.sql).fetch_all(lease.connection())).await?;
        lease.give_back();
        Ok(found.iter().map(rows::service).collect::<Result<_, _>>()?)
    }
}

fn numbered(found: &[PgRow]) -> Result<HashMap<Endpoint, EndpointId>, StoreError> {
    found.iter().map(|row| Ok((rows::endpoint(row)?, EndpointId(row.try_get("id")?)))).collect()
}
