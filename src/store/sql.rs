//! Every statement of the service, bound to its file in `sql/` here and nowhere else.

/// A statement and the file it stands in.
#[derive(Debug, Clone, Copy)]
pub struct Statement {
    /// Name of the file.
    pub file: &'static str,
    /// The text.
    pub sql: &'static str,
}

pub(super) const ADVANCE_STATE: Statement =
    Statement { file: "advance_state.sql", sql: include_str!("../../sql/advance_state.sql") };
pub(super) const API_KEYS: Statement = Statement { file: "api_keys.sql", sql: include_str!("../../sql/api_keys.sql") };
pub(super) const BEAT: Statement = Statement { file: "beat.sql", sql: include_str!("../../sql/beat.sql") };
pub(super) const BTREE_DDL: Statement =
    Statement { file: "btree_ddl.sql", sql: include_str!("../../sql/btree_ddl.sql") };
pub(super) const CLAIM_KEYS: Statement =
    Statement { file: "claim_keys.sql", sql: include_str!("../../sql/claim_keys.sql") };
pub(super) const CLAIM_SLOT: Statement =
    Statement { file: "claim_slot.sql", sql: include_str!("../../sql/claim_slot.sql") };
pub(super) const CONFIRM_RUN: Statement =
    Statement { file: "confirm_run.sql", sql: include_str!("../../sql/confirm_run.sql") };
pub(super) const COPY_REQUESTS: Statement =
    Statement { file: "copy_requests.sql", sql: include_str!("../../sql/copy_requests.sql") };
pub(super) const CREATE_API_KEY: Statement =
    Statement { file: "create_api_key.sql", sql: include_str!("../../sql/create_api_key.sql") };
pub(super) const DAILY: Statement = Statement { file: "daily.sql", sql: include_str!("../../sql/daily.sql") };
pub(super) const DAILY_OF_ZONE: Statement =
    Statement { file: "daily_of_zone.sql", sql: include_str!("../../sql/daily_of_zone.sql") };
pub(super) const DAYS_WITHOUT_BTREE: Statement =
    Statement { file: "days_without_btree.sql", sql: include_str!("../../sql/days_without_btree.sql") };
pub(super) const DELETE_HOURS: Statement =
    Statement { file: "delete_hours.sql", sql: include_str!("../../sql/delete_hours.sql") };
pub(super) const DELETE_JOB_RUNS: Statement =
    Statement { file: "delete_job_runs.sql", sql: include_str!("../../sql/delete_job_runs.sql") };
pub(super) const DELETE_KEYS: Statement =
    Statement { file: "delete_keys.sql", sql: include_str!("../../sql/delete_keys.sql") };
pub(super) const DELETE_MINUTES: Statement =
    Statement { file: "delete_minutes.sql", sql: include_str!("../../sql/delete_minutes.sql") };
pub(super) const DELTAS_BYTES: Statement =
    Statement { file: "deltas_bytes.sql", sql: include_str!("../../sql/deltas_bytes.sql") };
pub(super) const ENDPOINTS_OF_SERVICE: Statement =
    Statement { file: "endpoints_of_service.sql", sql: include_str!("../../sql/endpoints_of_service.sql") };
pub(super) const ENDPOINT_TOTALS: Statement =
    Statement { file: "endpoint_totals.sql", sql: include_str!("../../sql/endpoint_totals.sql") };
pub(super) const ENSURE_DAYS: Statement =
    Statement { file: "ensure_days.sql", sql: include_str!("../../sql/ensure_days.sql") };
pub(super) const EXPIRED_DAY: Statement =
    Statement { file: "expired_day.sql", sql: include_str!("../../sql/expired_day.sql") };
pub(super) const FILL_VIEW: Statement =
    Statement { file: "fill_view.sql", sql: include_str!("../../sql/fill_view.sql") };
pub(super) const FINISH_RUN: Statement =
    Statement { file: "finish_run.sql", sql: include_str!("../../sql/finish_run.sql") };
pub(super) const FOLD: Statement = Statement { file: "fold.sql", sql: include_str!("../../sql/fold.sql") };
pub(super) const HELD_API_KEYS: Statement =
    Statement { file: "held_api_keys.sql", sql: include_str!("../../sql/held_api_keys.sql") };
pub(super) const INDEXES_TO_REBUILD: Statement =
    Statement { file: "indexes_to_rebuild.sql", sql: include_str!("../../sql/indexes_to_rebuild.sql") };
pub(super) const INSERT_DELTAS: Statement =
    Statement { file: "insert_deltas.sql", sql: include_str!("../../sql/insert_deltas.sql") };
pub(super) const INSERT_FLUSH: Statement =
    Statement { file: "insert_flush.sql", sql: include_str!("../../sql/insert_flush.sql") };
pub(super) const KEPT_BYTES: Statement =
    Statement { file: "kept_bytes.sql", sql: include_str!("../../sql/kept_bytes.sql") };
pub(super) const KEYS_WITH_PREFIX: Statement =
    Statement { file: "keys_with_prefix.sql", sql: include_str!("../../sql/keys_with_prefix.sql") };
pub(super) const KNOWN_KEYS: Statement =
    Statement { file: "known_keys.sql", sql: include_str!("../../sql/known_keys.sql") };
pub(super) const LAST_RUNS: Statement =
    Statement { file: "last_runs.sql", sql: include_str!("../../sql/last_runs.sql") };
pub(super) const LOCK: Statement = Statement { file: "lock.sql", sql: include_str!("../../sql/lock.sql") };
pub(super) const LOCK_JOB: Statement = Statement { file: "lock_job.sql", sql: include_str!("../../sql/lock_job.sql") };
pub(super) const REFRESH_DUE: Statement =
    Statement { file: "refresh_due.sql", sql: include_str!("../../sql/refresh_due.sql") };
pub(super) const REFRESH_SEEN: Statement =
    Statement { file: "refresh_seen.sql", sql: include_str!("../../sql/refresh_seen.sql") };
pub(super) const REFRESH_VIEW: Statement =
    Statement { file: "refresh_view.sql", sql: include_str!("../../sql/refresh_view.sql") };
pub(super) const REGISTER_ENDPOINTS: Statement =
    Statement { file: "register_endpoints.sql", sql: include_str!("../../sql/register_endpoints.sql") };
pub(super) const REPLICA_STATE: Statement =
    Statement { file: "replica_state.sql", sql: include_str!("../../sql/replica_state.sql") };
pub(super) const REQUESTS_NEWEST: Statement =
    Statement { file: "requests_newest.sql", sql: include_str!("../../sql/requests_newest.sql") };
pub(super) const REQUESTS_SLOWEST: Statement =
    Statement { file: "requests_slowest.sql", sql: include_str!("../../sql/requests_slowest.sql") };
pub(super) const REVOKE_API_KEY: Statement =
    Statement { file: "revoke_api_key.sql", sql: include_str!("../../sql/revoke_api_key.sql") };
pub(super) const SCHEMA_VERSION: Statement =
    Statement { file: "schema_version.sql", sql: include_str!("../../sql/schema_version.sql") };
pub(super) const SERIES_HOURS: Statement =
    Statement { file: "series_hours.sql", sql: include_str!("../../sql/series_hours.sql") };
pub(super) const SERIES_MINUTES: Statement =
    Statement { file: "series_minutes.sql", sql: include_str!("../../sql/series_minutes.sql") };
pub(super) const SERIES_OF_DAYS: Statement =
    Statement { file: "series_of_days.sql", sql: include_str!("../../sql/series_of_days.sql") };
pub(super) const SERVICES: Statement = Statement { file: "services.sql", sql: include_str!("../../sql/services.sql") };
pub(super) const SETTLE_DEAD_RUNS: Statement =
    Statement { file: "settle_dead_runs.sql", sql: include_str!("../../sql/settle_dead_runs.sql") };
pub(super) const SHRINK_DELTAS: Statement =
    Statement { file: "shrink_deltas.sql", sql: include_str!("../../sql/shrink_deltas.sql") };
pub(super) const TABLES_CHANGED: Statement =
    Statement { file: "tables_changed.sql", sql: include_str!("../../sql/tables_changed.sql") };
pub(super) const TABLES_TO_VACUUM: Statement =
    Statement { file: "tables_to_vacuum.sql", sql: include_str!("../../sql/tables_to_vacuum.sql") };
pub(super) const VACUUM_DDL: Statement =
    Statement { file: "vacuum_ddl.sql", sql: include_str!("../../sql/vacuum_ddl.sql") };
pub(super) const VACUUM_DELTAS: Statement =
    Statement { file: "vacuum_deltas.sql", sql: include_str!("../../sql/vacuum_deltas.sql") };
pub(super) const VACUUM_HOURS: Statement =
    Statement { file: "vacuum_hours.sql", sql: include_str!("../../sql/vacuum_hours.sql") };
pub(super) const VACUUM_MINUTES: Statement =
    Statement { file: "vacuum_minutes.sql", sql: include_str!("../../sql/vacuum_minutes.sql") };
pub(super) const VERIFY_DAY: Statement =
    Statement { file: "verify_day.sql", sql: include_str!("../../sql/verify_day.sql") };
pub(super) const VERIFY_RANGE: Statement =
    Statement { file: "verify_range.sql", sql: include_str!("../../sql/verify_range.sql") };
pub(super) const VERIFY_ROLLUPS: Statement =
    Statement { file: "verify_rollups.sql", sql: include_str!("../../sql/verify_rollups.sql") };
pub(super) const VIEW_IS_FILLED: Statement =
    Statement { file: "view_is_filled.sql", sql: include_str!("../../sql/view_is_filled.sql") };

/// Every statement, for the test that prepares each against the migrated schema.
pub const ALL: &[Statement] = &[
    ADVANCE_STATE,
    API_KEYS,
    BEAT,
    BTREE_DDL,
    CLAIM_KEYS,
    CLAIM_SLOT,
    CONFIRM_RUN,
    COPY_REQUESTS,
    CREATE_API_KEY,
    DAILY,
    DAILY_OF_ZONE,
    DAYS_WITHOUT_BTREE,
    DELETE_HOURS,
    DELETE_JOB_RUNS,
    DELETE_KEYS,
    DELETE_MINUTES,
    DELTAS_BYTES,
    ENDPOINTS_OF_SERVICE,
    ENDPOINT_TOTALS,
    ENSURE_DAYS,
    EXPIRED_DAY,
    FILL_VIEW,
    FINISH_RUN,
    FOLD,
    HELD_API_KEYS,
    INDEXES_TO_REBUILD,
    INSERT_DELTAS,
    INSERT_FLUSH,
    KEPT_BYTES,
    KEYS_WITH_PREFIX,
    KNOWN_KEYS,
    LAST_RUNS,
    LOCK,
    LOCK_JOB,
    REFRESH_DUE,
    REFRESH_SEEN,
    REFRESH_VIEW,
    REGISTER_ENDPOINTS,
    REPLICA_STATE,
    REQUESTS_NEWEST,
    REQUESTS_SLOWEST,
    REVOKE_API_KEY,
    SCHEMA_VERSION,
    SERIES_HOURS,
    SERIES_MINUTES,
    SERIES_OF_DAYS,
    SERVICES,
    SETTLE_DEAD_RUNS,
    SHRINK_DELTAS,
    TABLES_CHANGED,
    TABLES_TO_VACUUM,
    VACUUM_DDL,
    VACUUM_DELTAS,
    VACUUM_HOURS,
    VACUUM_MINUTES,
    VERIFY_DAY,
    VERIFY_RANGE,
    VERIFY_ROLLUPS,
    VIEW_IS_FILLED,
];
