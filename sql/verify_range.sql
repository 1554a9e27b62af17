-- name: the days that can be verified
-- The first and last UTC day with raw requests or hours, from where on both are kept; NULL where there is none.
SELECT
    (MIN(seen.day) AT TIME ZONE 'UTC')::date AS first_day,
    (MAX(seen.day) AT TIME ZONE 'UTC')::date AS last_day
FROM (SELECT GREATEST(raw_since, hours_since) AS since FROM rollup_state) AS kept
CROSS JOIN LATERAL (
    SELECT MIN(timestamp) AS day FROM requests WHERE timestamp >= kept.since
    UNION ALL
    SELECT MAX(timestamp) FROM requests WHERE timestamp >= kept.since
    UNION ALL
    SELECT MIN(hour) FROM endpoint_hourly_stats WHERE hour >= kept.since
    UNION ALL
    SELECT MAX(hour) FROM endpoint_hourly_stats WHERE hour >= kept.since
    UNION ALL
    SELECT MIN(bucket) FROM rollup_deltas WHERE bucket >= kept.since
    UNION ALL
    SELECT MAX(bucket) FROM rollup_deltas WHERE bucket >= kept.since
) AS seen
