//! Rollups against what they were made of: hours against raw requests, minutes and the daily view against hours.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, Utc};
use sqlx::postgres::PgRow;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::{ANSWER, Store, StoreError, sql, within};

/// Longest wait for one day: a day of 86 million requests takes about a minute.
const DAY: Duration = Duration::from_secs(20 * 60);

/// A transaction whose statements Postgres itself ends a little before [`DAY`] is over.
const BEGIN_DAY: &str = "BEGIN; SET LOCAL statement_timeout = '1195s'";

/// The longest count told whole; a histogram has thousands of digits.
const TOLD_DIGITS: usize = 40;

/// An hour (or, of the daily view, a day) of an endpoint in which a rollup says something else than what it was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Beginning of the hour or day.
    pub hour: DateTime<Utc>,
    /// `service method route`, or the bare number of an endpoint that is not in the table.
    pub endpoint: String,
    /// Which count differs.
    pub what: String,
    /// The rollup, and what it says; `None` where it has no row.
    pub told: (String, Option<String>),
    /// What it was made of, and what that says; `None` where there is nothing.
    pub known: (String, Option<String>),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hour, endpoint, what, told, known } = self;
        let count = |(name, count): &(String, Option<String>)| match count {
            None => format!("{name} none"),
            Some(digits) if digits.len() > TOLD_DIGITS => {
                format!("{name} …{} ({} digits)", &digits[digits.len() - TOLD_DIGITS..], digits.len())
            }
            Some(digits) => format!("{name} {digits}"),
        };
        let number =
            |(_, count): &(String, Option<String>)| count.as_ref().and_then(|digits| digits.parse::<i128>().ok());
        let by = match (number(told), number(known)) {
            (Some(told), Some(known)) => format!(" (difference {:+})", told - known),
            _ => String::new(),
        };
        write!(f, "{} {endpoint}: {what}: {}, {}{by}", hour.format("%Y-%m-%dT%H:%MZ"), count(told), count(known))
    }
}

/// The days that can be compared: those whose raw requests are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedDays {
    /// The first.
    pub first: NaiveDate,
    /// The last.
    pub last: NaiveDate,
}

impl VerifiedDays {
    /// Each day, oldest first.
    pub fn iter(self) -> impl Iterator<Item = NaiveDate> {
        self.first.iter_days().take_while(move |day| *day <= self.last)
    }
}

impl Store {
    /// The days that can be verified; `None` where there is no data.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn verifiable_days(&self) -> Result<Option<VerifiedDays>, StoreError> {
        let mut lease = self.lease().await?;
        let mut transaction = within(ANSWER, lease.connection().begin_with(BEGIN_DAY)).await?;
        let row = within(DAY, sqlx::query(sql::VERIFY_RANGE.sql).fetch_one(&mut *transaction)).await?;
        within(ANSWER, transaction.commit()).await?;
        lease.give_back();
        let (first, last): (Option<NaiveDate>, Option<NaiveDate>) =
            (row.try_get("first_day")?, row.try_get("last_day")?);
        Ok(first.zip(last).map(|(first, last)| VerifiedDays { first, last }))
    }

    /// Where, on `day`, the hours do not say what the raw requests say, or the minutes or the daily view not what the hours
    /// say; at most `limit` differences of each kind.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn verify_day(&self, day: NaiveDate, limit: u32) -> Result<Vec<Difference>, StoreError> {
        let mut lease = self.lease().await?;
        let mut transaction = within(ANSWER, lease.connection().begin_with(BEGIN_DAY)).await?;
        let differences = differences(&mut transaction, day, limit, DAY).await?;
        within(ANSWER, transaction.commit()).await?;
        lease.give_back();
        Ok(differences)
    }
}

/// What [`Store::verify_day`] says, over a connection whose statements may take nearly `patience`.
pub(super) async fn differences(
    connection: &mut PgConnection,
    day: NaiveDate,
    limit: u32,
    patience: Duration,
) -> Result<Vec<Difference>, StoreError> {
    let midnight = |day: NaiveDate| day.and_time(chrono::NaiveTime::MIN).and_utc();
    let next = day + Days::new(1);
    let mut differences = Vec::new();
    // Each statement compares within a snapshot of its own, so neither minds what comes in between.
    for statement in [sql::VERIFY_DAY, sql::VERIFY_ROLLUPS] {
        let query = sqlx::query(statement.sql).bind(midnight(day)).bind(midnight(next)).bind(i64::from(limit));
        for row in within(patience, query.fetch_all(&mut *connection)).await? {
            differences.push(difference(&row)?);
        }
    }
    Ok(differences)
}

fn difference(row: &PgRow) -> Result<Difference, sqlx::Error> {
    let parts = [row.try_get::<Option<String>, _>("service")?, row.try_get("method")?, row.try_get("route")?];
    let endpoint = match parts {
        [Some(service), Some(method), Some(route)] => format!("{service} {method} {route}"),
        _ => format!("endpoint {}", row.try_get::<i32, _>("endpoint_id")?),
    };
    Ok(Difference {
        hour: row.try_get("hour")?,
        endpoint,
        what: row.try_get("what")?,
        told: (row.try_get("told_by")?, row.try_get("told")?),
        known: (row.try_get("known_from")?, row.try_get("known")?),
    })
}
