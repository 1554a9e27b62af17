-- name: one endpoint by the days of a time zone, from the hours, as of one snapshot
-- $1 endpoint; $2: beginnings of the days and the end of the last, ascending, full hours. A row a day that saw requests, `step`
-- being its beginning; where there is none, one row without step. Every row says from when on minutes are kept, and whether the
-- endpoint exists. Postgres knows nothing of the zone: its own rules could be others than those the bounds were made by.
WITH parts AS (
    SELECT hours.hour AS bucket,
        hours.request_count, hours.redirect_count, hours.client_error_count, hours.error_count, hours.timed_count,
        hours.total_response_time_us, hours.min_response_time_us, hours.max_response_time_us, hours.latency_histogram
    FROM endpoint_hourly_stats AS hours
    WHERE hours.endpoint_id = $1
      AND hours.hour >= ($2::timestamptz[])[1] AND hours.hour < ($2::timestamptz[])[cardinality($2::timestamptz[])]

    UNION ALL -- what is not folded yet
    SELECT deltas.bucket,
        deltas.request_count, deltas.redirect_count, deltas.client_error_count, deltas.error_count, deltas.timed_count,
        deltas.total_response_time_us, deltas.min_response_time_us, deltas.max_response_time_us, deltas.latency_histogram
    FROM rollup_deltas AS deltas
    WHERE deltas.endpoint_id = $1
      AND deltas.bucket >= ($2::timestamptz[])[1] AND deltas.bucket < ($2::timestamptz[])[cardinality($2::timestamptz[])]
),
days AS (
    SELECT
        ($2::timestamptz[])[width_bucket(parts.bucket, $2::timestamptz[])] AS step,
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
    days.*
FROM rollup_state
LEFT JOIN endpoints ON endpoints.id = $1
LEFT JOIN days ON true
ORDER BY days.step
