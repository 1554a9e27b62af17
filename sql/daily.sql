-- name: counters by endpoint and UTC day, newest day first, busiest endpoint first, as of one snapshot
-- $1, $2: first day and the day after the last. $3 service, $4 method, $5 part of the route in any case, $6 endpoint; each
-- NULL for any. $7: at most this many rows.
-- Days that the view does not speak for come from the hours; what is not folded yet is added to either.
WITH picked AS (
    SELECT id, service, method, route
    FROM endpoints
    WHERE ($3::text IS NULL OR service = $3)
      AND ($4::text IS NULL OR method = $4)
      AND ($5::text IS NULL OR strpos(lower(route), lower($5)) > 0)
      AND ($6::integer IS NULL OR id = $6)
),
spoken AS (
    -- The days of the view: [first_day, end_day) but the stale ones. Before hours_since there is nothing, also where
    -- retention has not come to delete it yet.
    SELECT first_day, GREATEST(first_day, LEAST($2::date, view_through + 1)) AS end_day
    FROM rollup_state
    CROSS JOIN LATERAL (SELECT GREATEST($1::date, (hours_since AT TIME ZONE 'UTC')::date)) AS kept (first_day)
),
parts AS (
    SELECT days.day, days.endpoint_id,
        days.request_count, days.redirect_count, days.client_error_count, days.error_count, days.timed_count,
        days.total_response_time_us, days.min_response_time_us, days.max_response_time_us, days.latency_histogram
    FROM spoken
    JOIN endpoint_daily_stats AS days ON days.day >= spoken.first_day AND days.day < spoken.end_day
    WHERE NOT EXISTS (SELECT FROM stale_days WHERE stale_days.day = days.day)

    UNION ALL -- hours of the days behind the view
    SELECT (hours.hour AT TIME ZONE 'UTC')::date, hours.endpoint_id,
        hours.request_count, hours.redirect_count, hours.client_error_count, hours.error_count, hours.timed_count,
        hours.total_response_time_us, hours.min_response_time_us, hours.max_response_time_us, hours.latency_histogram
    FROM spoken
    JOIN endpoint_hourly_stats AS hours
        ON hours.hour >= spoken.end_day::timestamp AT TIME ZONE 'UTC' AND hours.hour < $2::date::timestamp AT TIME ZONE 'UTC'

    UNION ALL -- hours of the days on which the view is stale
    SELECT stale_days.day, hours.endpoint_id,
        hours.request_count, hours.redirect_count, hours.client_error_count, hours.error_count, hours.timed_count,
        hours.total_response_time_us, hours.min_response_time_us, hours.max_response_time_us, hours.latency_histogram
    FROM spoken
    JOIN stale_days ON stale_days.day >= spoken.first_day AND stale_days.day < spoken.end_day
    JOIN endpoint_hourly_stats AS hours
        ON hours.hour >= stale_days.day::timestamp AT TIME ZONE 'UTC'
       AND hours.hour < (stale_days.day + 1)::timestamp AT TIME ZONE 'UTC'

    UNION ALL -- what is not folded yet
    SELECT (deltas.bucket AT TIME ZONE 'UTC')::date, deltas.endpoint_id,
        deltas.request_count, deltas.redirect_count, deltas.client_error_count, deltas.error_count, deltas.timed_count,
        deltas.total_response_time_us, deltas.min_response_time_us, deltas.max_response_time_us, deltas.latency_histogram
    FROM spoken
    JOIN rollup_deltas AS deltas
        ON deltas.bucket >= spoken.first_day::timestamp AT TIME ZONE 'UTC' AND deltas.bucket < $2::date::timestamp AT TIME ZONE 'UTC'
),
summed AS (
    SELECT
        parts.day,
        parts.endpoint_id,
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
    WHERE parts.endpoint_id IN (SELECT id FROM picked)
    GROUP BY parts.day, parts.endpoint_id
)
SELECT
    summed.day, picked.id AS endpoint_id, picked.service, picked.method, picked.route,
    summed.request_count, summed.redirect_count, summed.client_error_count, summed.error_count, summed.timed_count,
    summed.total_response_time_us, summed.min_response_time_us, summed.max_response_time_us, summed.latency_histogram
FROM summed
JOIN picked ON picked.id = summed.endpoint_id
ORDER BY summed.day DESC, summed.request_count DESC, picked.id
LIMIT $7
