//! What keeps Postgres itself in shape: planner statistics, dead rows, indexes. Nothing here locks out a reader or a writer.

use chrono::NaiveDate;
use sqlx::{AssertSqlSafe, Row as _};

use super::{ANSWER, Difference, JobSession, StoreError, sql, within};

/// A table or index and the statement that is its upkeep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upkeep {
    /// What it is about, for people.
    pub name: String,
    statement: String,
}

impl JobSession {
    /// The tables about which the planner should be told anew.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tables_to_analyze(&mut self) -> Result<Vec<Upkeep>, StoreError> {
        let (connection, _) = self.connection();
        let tables = within(ANSWER, sqlx::query_scalar(sql::TABLES_CHANGED.sql).fetch_all(connection)).await?;
        self.statements(tables, "analyze").await
    }

    /// The tables with dead rows: the rollups and the days from `open` on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tables_to_vacuum(&mut self, open: NaiveDate) -> Result<Vec<Upkeep>, StoreError> {
        let (connection, _) = self.connection();
        let tables = sqlx::query_scalar(sql::TABLES_TO_VACUUM.sql).bind(open).fetch_all(connection);
        let tables = within(ANSWER, tables).await?;
        self.statements(tables, "vacuum").await
    }

    /// The indexes to build anew, and first what a rebuilding that was cut off has left to remove.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn indexes_to_rebuild(&mut self) -> Result<Vec<Upkeep>, StoreError> {
        let (connection, _) = self.connection();
        let rows = within(ANSWER, sqlx::query(sql::INDEXES_TO_REBUILD.sql).fetch_all(connection)).await?;
        let upkeep =
            rows.iter().map(|row| Ok(Upkeep { name: row.try_get("name")?, statement: row.try_get("statement")? }));
        Ok(upkeep.collect::<Result<_, sqlx::Error>>()?)
    }

    /// Does one piece of upkeep.
    ///
    /// # Errors
    /// [`StoreError`]; what is left of an index is not used, and removed by the next run.
    pub async fn keep_up(&mut self, upkeep: &Upkeep) -> Result<(), StoreError> {
        let (connection, patience) = self.connection();
        // Rebuilding waits for every transaction that is older, and holds nobody up meanwhile.
        within(ANSWER, sqlx::query("SET lock_timeout = 0").execute(&mut *connection)).await?;
        // Made by Postgres' own format() from its catalog.
        within(patience, sqlx::query(AssertSqlSafe(upkeep.statement.clone())).execute(&mut *connection)).await?;
        within(ANSWER, sqlx::query("RESET lock_timeout").execute(&mut *connection)).await?;
        Ok(())
    }

    /// As [`Store::verify_day`](super::Store::verify_day), in the session of a run.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn verify_day(&mut self, day: NaiveDate, limit: u32) -> Result<Vec<Difference>, StoreError> {
        let (connection, patience) = self.connection();
        super::verify::differences(connection, day, limit, patience).await
    }

    async fn statements(&mut self, tables: Vec<String>, column: &str) -> Result<Vec<Upkeep>, StoreError> {
        let (connection, _) = self.connection();
        let mut upkeep = Vec::with_capacity(tables.len());
        for name in tables {
            let row = within(ANSWER, sqlx::query(sql::VACUUM_DDL.sql).bind(&name).fetch_one(&mut *connection)).await?;
            upkeep.push(Upkeep { statement: row.try_get(column)?, name });
        }
        Ok(upkeep)
    }
}
