-- name: the days that can be verified
-- The first and last UTC day with raw requests or hours, from raw_since on; NULL where there is none.
SELECT
    (MIN(seen.day) AT TIME ZONE 'UTC')::date AS first_day,
    (MAX(seen.day) AT TIME ZONE 'UTC')::date AS last_day
FROM rollup_state
CROSS JOIN LATERAL (
    SELECT MIN(timestamp) AS day FROM requests WHERE timestamp >= rollup_state.raw_since
    UNION ALL
    SELECT MAX(timestamp) FROM requests WHERE timestamp >= rollup_state.raw_since
    UNION ALL
    SELECT MIN(hour) FROM endpoint_hourly_stats WHERE hour >= rollup_state.raw_since
    UNION ALL
    SELECT MAX(hour) FROM endpoint_hourly_stats WHERE hour >= rollup_state.raw_since
    UNION ALL
    SELECT MIN(bucket) FROM rollup_deltas WHERE bucket >= rollup_state.raw_since
    UNION ALL
    SELECT MAX(bucket) FROM rollup_deltas WHERE bucket >= rollup_state.raw_since
) AS seen
