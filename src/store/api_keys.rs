//! API keys: their hashes and what they allow, never the keys.

use chrono::{DateTime, Utc};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::{ANSWER, Store, StoreError, sql, within};
use crate::domain::{KeyHash, KeyPrefix, Scope};

/// A key that holds.
pub struct HeldKey {
    /// Its name.
    pub name: String,
    /// Its public part.
    pub prefix: KeyPrefix,
    /// What is kept of the rest.
    pub hash: KeyHash,
    /// What it allows.
    pub scope: Scope,
}

/// A key as it is shown to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedKey {
    /// Its name.
    pub name: String,
    /// Its public part.
    pub prefix: KeyPrefix,
    /// What it allows.
    pub scope: Scope,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was revoked; `None` while it holds.
    pub revoked_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Writes a new key down. Returns whether it did: not if its name or its prefix is taken.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_api_key(
        &self,
        name: &str,
        prefix: KeyPrefix,
        hash: &KeyHash,
        scope: Scope,
    ) -> Result<bool, StoreError> {
        let query = sqlx::query(sql::CREATE_API_KEY.sql)
            .bind(name)
            .bind(prefix.as_str())
            .bind(&hash.as_bytes()[..])
            .bind(scope.name());
        let mut lease = self.lease().await?;
        let created = within(ANSWER, query.fetch_optional(lease.connection())).await?;
        lease.give_back();
        Ok(created.is_some())
    }

    /// Every key there is or was, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn api_keys(&self) -> Result<Vec<ListedKey>, StoreError> {
        let mut lease = self.lease().await?;
        let found = within(ANSWER, sqlx::query(sql::API_KEYS.sql).fetch_all(lease.connection())).await?;
        lease.give_back();
        let listed = found.iter().map(|row| {
            Ok(ListedKey {
                name: row.try_get("name")?,
                prefix: prefix(row)?,
                scope: scope(row)?,
                created_at: row.try_get("created_at")?,
                revoked_at: row.try_get("revoked_at")?,
            })
        });
        Ok(listed.collect::<Result<_, sqlx::Error>>()?)
    }

    /// Every key that holds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn held_api_keys(&self) -> Result<Vec<HeldKey>, StoreError> {
        let mut lease = self.lease().await?;
        let found = within(ANSWER, sqlx::query(sql::HELD_API_KEYS.sql).fetch_all(lease.connection())).await?;
        lease.give_back();
        let held = found.iter().map(|row| {
            Ok(HeldKey {
                name: row.try_get("name")?,
                prefix: prefix(row)?,
                hash: KeyHash::from_bytes(row.try_get("hash")?).ok_or_else(|| not_one("hash"))?,
                scope: scope(row)?,
            })
        });
        Ok(held.collect::<Result<_, sqlx::Error>>()?)
    }

    /// Revokes a key by its name or its prefix. Returns its name; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke_api_key(&self, name_or_prefix: &str) -> Result<Option<String>, StoreError> {
        let query = sqlx::query(sql::REVOKE_API_KEY.sql).bind(name_or_prefix);
        let mut lease = self.lease().await?;
        let revoked = within(ANSWER, query.fetch_optional(lease.connection())).await?;
        lease.give_back();
        Ok(revoked.map(|row| row.try_get("name")).transpose()?)
    }
}

fn prefix(row: &PgRow) -> Result<KeyPrefix, sqlx::Error> {
    KeyPrefix::parse(row.try_get("prefix")?).ok_or_else(|| not_one("prefix"))
}

fn scope(row: &PgRow) -> Result<Scope, sqlx::Error> {
    row.try_get::<&str, _>("scope")?.parse().map_err(|_| not_one("scope"))
}

/// A column of `api_keys` that somebody else has written to.
fn not_one(column: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("api_keys.{column} holds what is no {column} of a key").into())
}
