//! Counters and endpoints as Postgres has them.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgRow, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Row as _, Type};

use crate::domain::{Counters, Endpoint, EndpointId, LatencyHistogram, Method, Route, Service, decode_unsigned};

/// Postgres' own numbers of the types `numeric` and `numeric[]` (`src/include/catalog/pg_type.dat`).
const NUMERIC: Oid = Oid(1700);
const NUMERIC_ARRAY: Oid = Oid(1231);

/// A `numeric` in binary form: bytes as they came, or bytes to send.
pub(super) struct Numeric<B>(pub(super) B);

impl<B> Type<Postgres> for Numeric<B> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(NUMERIC)
    }
}

impl<B> PgHasArrayType for Numeric<B> {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(NUMERIC_ARRAY)
    }
}

impl Encode<'_, Postgres> for Numeric<Vec<u8>> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }
}

impl<'r> Decode<'r, Postgres> for Numeric<&'r [u8]> {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        match value.format() {
            PgValueFormat::Binary => Ok(Self(value.as_bytes()?)),
            PgValueFormat::Text => Err("a numeric came as text; only prepared statements are read here".into()),
        }
    }
}

/// The counters of a row, by the column names that every rollup shares.
pub(super) fn counters(row: &PgRow) -> Result<Counters, sqlx::Error> {
    let count = |column: &str| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
    let optional = |column: &str| row.try_get::<Option<i64>, _>(column).map(|us| us.map(i64::unsigned_abs));
    let decode = |error| sqlx::Error::Decode(Box::new(error));
    Ok(Counters {
        request_count: count("request_count")?,
        redirect_count: count("redirect_count")?,
        client_error_count: count("client_error_count")?,
        error_count: count("error_count")?,
        timed_count: count("timed_count")?,
        total_response_time_us: decode_unsigned(row.try_get::<Numeric<&[u8]>, _>("total_response_time_us")?.0)
            .map_err(decode)?,
        min_response_time_us: optional("min_response_time_us")?,
        max_response_time_us: optional("max_response_time_us")?,
        latency_histogram: LatencyHistogram::decode(row.try_get::<Numeric<&[u8]>, _>("latency_histogram")?.0)
            .map_err(decode)?,
    })
}

/// The endpoint of a row.
pub(super) fn endpoint(row: &PgRow) -> Result<Endpoint, sqlx::Error> {
    Ok(Endpoint {
        service: service(row)?,
        method: text(row, "method", Method::parse)?,
        route: text(row, "route", Route::parse)?,
    })
}

/// The service of a row.
pub(super) fn service(row: &PgRow) -> Result<Service, sqlx::Error> {
    text(row, "service", Service::parse)
}

fn text<T, E: std::error::Error + Send + Sync + 'static>(
    row: &PgRow,
    column: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, sqlx::Error> {
    parse(row.try_get(column)?).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// An endpoint and its number, where the row has one.
pub(super) fn numbered_endpoint(row: &PgRow) -> Result<Option<(EndpointId, Endpoint)>, sqlx::Error> {
    match row.try_get::<Option<i32>, _>("endpoint_id")? {
        Some(id) => Ok(Some((EndpointId(id), endpoint(row)?))),
        None => Ok(None),
    }
}
