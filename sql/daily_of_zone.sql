-- name: counters by endpoint and day of a time zone, newest day first, busiest endpoint first, as of one snapshot
-- $1: beginnings of the days and the end of the last, ascending, full hours. $2 service, $3 method, $4 part of the route in any
-- case, $5 endpoint; each NULL for any. $6: at most this many rows. `ordinal` is the number of the day, from 1.
-- The view knows only days of UTC, so all comes from the hours, and what is not folded yet is added. Day by day, the newest
-- first: once there are $6 rows, the hours of earlier days are not read. Postgres knows nothing of the zone: its own rules could
-- be others than those the bounds were made by.
WITH picked AS (
    SELECT id, service, method, route
    FROM endpoints
    WHERE ($2::text IS NULL OR service = $2)
      AND ($3::text IS NULL OR method = $3)
      AND ($4::text IS NULL OR strpos(lower(route), lower($4)) > 0)
      AND ($5::integer IS NULL OR id = $5)
),
days AS (
    -- Before hours_since there is nothing, also where retention has not come to delete it yet.
    SELECT opened.ordinal, GREATEST(opened.instant, (SELECT hours_since FROM rollup_state)) AS day_from, ($1::timestamptz[])[opened.ordinal + 1] AS day_to
    FROM unnest($1::timestamptz[]) WITH ORDINALITY AS opened (instant, ordinal)
    WHERE opened.ordinal < cardinality($1::timestamptz[])
),
unfolded AS MATERIALIZED (
    -- Once for all days, and summed: there is no index to find those of one day.
    SELECT
        width_bucket(deltas.bucket, $1::timestamptz[]) AS ordinal,
        deltas.endpoint_id,
        SUM(deltas.request_count)::bigint AS request_count,
        SUM(deltas.redirect_count)::bigint AS redirect_count,
        SUM(deltas.client_error_count)::bigint AS client_error_count,
        SUM(deltas.error_count)::bigint AS error_count,
        SUM(deltas.timed_count)::bigint AS timed_count,
        SUM(deltas.total_response_time_us) AS total_response_time_us,
        MIN(deltas.min_response_time_us) AS min_response_time_us,
        MAX(deltas.max_response_time_us) AS max_response_time_us,
        SUM(deltas.latency_histogram) AS latency_histogram
    FROM picked
    JOIN rollup_deltas AS deltas ON deltas.endpoint_id = picked.id
    WHERE deltas.bucket >= GREATEST(($1::timestamptz[])[1], (SELECT hours_since FROM rollup_state))
      AND deltas.bucket < ($1::timestamptz[])[cardinality($1::timestamptz[])]
    GROUP BY 1, 2
)
SELECT newest.ordinal, found.*
FROM (SELECT * FROM days ORDER BY ordinal DESC) AS newest
CROSS JOIN LATERAL (
    SELECT
        picked.id AS endpoint_id, picked.service, picked.method, picked.route,
        SUM(parts.request_count)::bigint AS request_count,
        SUM(parts.redirect_count)::bigint AS redirect_count,
        SUM(parts.client_error_count)::bigint AS client_error_count,
        SUM(parts.error_count)::bigint AS error_count,
        SUM(parts.timed_count)::bigint AS timed_count,
        SUM(parts.total_response_time_us) AS total_response_time_us,
        MIN(parts.min_response_time_us) AS min_response_time_us,
        MAX(parts.max_response_time_us) AS max_response_time_us,
        SUM(parts.latency_histogram) AS latency_histogram
    FROM (
        -- From the endpoints, so that where few are picked only their hours are looked up.
        SELECT hours.endpoint_id,
            hours.request_count, hours.redirect_count, hours.client_error_count, hours.error_count, hours.timed_count,
            hours.total_response_time_us, hours.min_response_time_us, hours.max_response_time_us, hours.latency_histogram
        FROM picked
        JOIN endpoint_hourly_stats AS hours ON hours.endpoint_id = picked.id
        WHERE hours.hour >= newest.day_from AND hours.hour < newest.day_to

        UNION ALL -- what is not folded yet
        SELECT unfolded.endpoint_id,
            unfolded.request_count, unfolded.redirect_count, unfolded.client_error_count, unfolded.error_count,
            unfolded.timed_count, unfolded.total_response_time_us, unfolded.min_response_time_us,
            unfolded.max_response_time_us, unfolded.latency_histogram
        FROM unfolded
        WHERE unfolded.ordinal = newest.ordinal
    ) AS parts
    JOIN picked ON picked.id = parts.endpoint_id
    GROUP BY picked.id, picked.service, picked.method, picked.route
) AS found
ORDER BY newest.ordinal DESC, found.request_count DESC, found.endpoint_id
LIMIT $6
