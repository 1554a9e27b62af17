-- name: one endpoint in steps, from the hours, as of one snapshot
-- $1 endpoint; $2, $3: beginning and end, whole steps; $4: the step. A row a step that saw requests; where there is none,
-- one row without step. Every row says from when on minutes are kept, and whether the endpoint exists.
WITH parts AS (
    SELECT hours.hour AS bucket,
        hours.request_count, hours.redirect_count, hours.client_error_count, hours.error_count, hours.timed_count,
        hours.total_response_time_us, hours.min_response_time_us, hours.max_response_time_us, hours.latency_histogram
    FROM endpoint_hourly_stats AS hours
    WHERE hours.endpoint_id = $1 AND hours.hour >= $2 AND hours.hour < $3

    UNION ALL -- what is not folded yet
    SELECT deltas.bucket,
        deltas.request_count, deltas.redirect_count, deltas.client_error_count, deltas.error_count, deltas.timed_count,
        deltas.total_response_time_us, deltas.min_response_time_us, deltas.max_response_time_us, deltas.latency_histogram
    FROM rollup_deltas AS deltas
    WHERE deltas.endpoint_id = $1 AND deltas.bucket >= $2 AND deltas.bucket < $3
),
steps AS (
    SELECT
        date_bin($4::interval, parts.bucket, '2000-01-01T00:00:00Z'::timestamptz) AS step,
        SUM(parts.request_count)::bigint AS request_count,
        SUM(parts.redirect_count)::bigint AS redirect_count,
        SUM(parts.client_error_count)::bigint AS client_error_count,
        SUM(parts.error_count)::bigint AS error_count,
        SUM(parts.timed_count)::bigint AS timed_count,
        SUM(parts.total_response_time_us) AS total_response_time_us,
        MIN(parts.min_response_time_us) AS min_response_time_us,
        MAX(parts.max_response_time_us) AS max_response_time_us,
        SUM(parts.latency_histogram) AS latency_histogram
    FROM parts
    -- Before it there is nothing, also where retention has not come to delete it yet.
    WHERE parts.bucket >= (SELECT hours_since FROM rollup_state)
    GROUP BY step
)
SELECT
    NULLIF(rollup_state.minutes_since, '-infinity') AS minutes_since, endpoints.id AS endpoint_id, endpoints.service, endpoints.method, endpoints.route,
    steps.*
FROM rollup_state
LEFT JOIN endpoints ON endpoints.id = $1
LEFT JOIN steps ON true
ORDER BY steps.step
