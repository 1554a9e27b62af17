-- name: counters of every endpoint over each of some windows, as of one snapshot
-- $1, $2: beginnings and ends of the windows, whole minutes. $3 service, $4 method, $5 part of the route in any case,
-- $6 endpoint; each NULL for any. A row a window and endpoint; a window without any gives one row without endpoint; an
-- endpoint asked for by $6 gives a row even without requests.
WITH picked AS (
    SELECT id, service, method, route
    FROM endpoints
    WHERE ($3::text IS NULL OR service = $3)
      AND ($4::text IS NULL OR method = $4)
      AND ($5::text IS NULL OR strpos(lower(route), lower($5)) > 0)
      AND ($6::integer IS NULL OR id = $6)
),
stepped AS (
    -- Before minutes_since an hour is the finest step there is. Both edges stay on their side of it: it is a full hour.
    SELECT
        asked.ordinal,
        CASE WHEN asked.lower < minutes_since THEN date_trunc('hour', asked.lower, 'UTC') ELSE asked.lower END AS window_from,
        CASE WHEN asked.upper < minutes_since
            THEN date_trunc('hour', asked.upper + interval '1 hour' - interval '1 microsecond', 'UTC')
            ELSE asked.upper
        END AS window_to,
        view_through,
        hours_since
    FROM unnest($1::timestamptz[], $2::timestamptz[]) WITH ORDINALITY AS asked (lower, upper, ordinal)
    CROSS JOIN rollup_state
),
widened AS (
    -- Before hours_since there is nothing, also where retention has not come to delete it yet.
    SELECT ordinal, LEAST(GREATEST(window_from, hours_since), window_to) AS window_from, window_to, view_through
    FROM stepped
),
edges AS MATERIALIZED (
    -- Where each rollup takes over: whole days the view speaks for, whole hours around them, minutes at the ends.
    SELECT
        widened.*,
        date_trunc('hour', window_from + interval '1 hour' - interval '1 microsecond', 'UTC') AS first_hour,
        -- The hour in which the window ends is taken whole where nothing in it lies behind the window, as in one that reaches to
        -- the present: one row an endpoint instead of up to 59. Deltas are read by their own minute in any case.
        date_trunc('hour', window_to, 'UTC') + CASE WHEN NOT EXISTS (
            SELECT
            FROM endpoint_minute_stats AS later
            WHERE later.minute >= window_to AND later.minute < date_trunc('hour', window_to, 'UTC') + interval '1 hour'
        ) AND date_trunc('hour', window_to, 'UTC') < window_to THEN interval '1 hour' ELSE interval '0' END AS end_hour,
        days.first_day,
        days.end_day,
        days.first_day::timestamp AT TIME ZONE 'UTC' AS days_from,
        days.end_day::timestamp AT TIME ZONE 'UTC' AS days_to
    FROM widened
    CROSS JOIN LATERAL (
        SELECT
            first_day,
            GREATEST(first_day, LEAST((window_to AT TIME ZONE 'UTC')::date, view_through + 1)) AS end_day
        FROM (SELECT ((window_from + interval '1 day' - interval '1 microsecond') AT TIME ZONE 'UTC')::date) AS first (first_day)
    ) AS days
)
SELECT edges.ordinal, edges.window_from, edges.window_to, found.*
FROM edges
LEFT JOIN LATERAL (
    SELECT
        picked.id AS endpoint_id, picked.service, picked.method, picked.route,
        summed.request_count, summed.redirect_count, summed.client_error_count, summed.error_count, summed.timed_count,
        summed.total_response_time_us, summed.min_response_time_us, summed.max_response_time_us, summed.latency_histogram
    FROM picked
    LEFT JOIN (
        -- Some ten thousand rows go through here, so nothing is joined to them: the rollups are read straight into the sums.
        SELECT
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
        FROM (
            SELECT days.endpoint_id,
                days.request_count, days.redirect_count, days.client_error_count, days.error_count, days.timed_count,
                days.total_response_time_us, days.min_response_time_us, days.max_response_time_us, days.latency_histogram
            FROM endpoint_daily_stats AS days
            WHERE days.day >= edges.first_day AND days.day < edges.end_day
              -- Hashed once; NOT EXISTS would scan them for every row. No day is NULL.
              AND days.day NOT IN (SELECT day FROM stale_days)

            UNION ALL -- hours before the days
            SELECT hours.endpoint_id,
                hours.request_count, hours.redirect_count, hours.client_error_count, hours.error_count, hours.timed_count,
                hours.total_response_time_us, hours.min_response_time_us, hours.max_response_time_us, hours.latency_histogram
            FROM endpoint_hourly_stats AS hours
            WHERE hours.hour >= edges.first_hour AND hours.hour < LEAST(edges.days_from, edges.end_hour)

            UNION ALL -- hours behind the days
            SELECT hours.endpoint_id,
                hours.request_count, hours.redirect_count, hours.client_error_count, hours.error_count, hours.timed_count,
                hours.total_response_time_us, hours.min_response_time_us, hours.max_response_time_us, hours.latency_histogram
            FROM endpoint_hourly_stats AS hours
            WHERE hours.hour >= edges.days_to AND hours.hour < edges.end_hour

            UNION ALL -- hours of the days on which the view is stale
            SELECT hours.endpoint_id,
                hours.request_count, hours.redirect_count, hours.client_error_count, hours.error_count, hours.timed_count,
                hours.total_response_time_us, hours.min_response_time_us, hours.max_response_time_us, hours.latency_histogram
            FROM stale_days
            JOIN endpoint_hourly_stats AS hours
                ON hours.hour >= stale_days.day::timestamp AT TIME ZONE 'UTC'
               AND hours.hour < (stale_days.day + 1)::timestamp AT TIME ZONE 'UTC'
            WHERE stale_days.day >= edges.first_day AND stale_days.day < edges.end_day

            UNION ALL -- minutes before the first full hour
            SELECT minutes.endpoint_id,
                minutes.request_count, minutes.redirect_count, minutes.client_error_count, minutes.error_count, minutes.timed_count,
                minutes.total_response_time_us, minutes.min_response_time_us, minutes.max_response_time_us, minutes.latency_histogram
            FROM endpoint_minute_stats AS minutes
            WHERE minutes.minute >= edges.window_from AND minutes.minute < LEAST(edges.first_hour, edges.window_to)

            UNION ALL -- minutes behind the last full hour
            SELECT minutes.endpoint_id,
                minutes.request_count, minutes.redirect_count, minutes.client_error_count, minutes.error_count, minutes.timed_count,
                minutes.total_response_time_us, minutes.min_response_time_us, minutes.max_response_time_us, minutes.latency_histogram
            FROM endpoint_minute_stats AS minutes
            WHERE minutes.minute >= GREATEST(edges.end_hour, edges.first_hour) AND minutes.minute < edges.window_to

            UNION ALL -- what is not folded yet, wherever it belongs
            SELECT deltas.endpoint_id,
                deltas.request_count, deltas.redirect_count, deltas.client_error_count, deltas.error_count, deltas.timed_count,
                deltas.total_response_time_us, deltas.min_response_time_us, deltas.max_response_time_us, deltas.latency_histogram
            FROM rollup_deltas AS deltas
            WHERE deltas.bucket >= edges.window_from AND deltas.bucket < edges.window_to
        ) AS parts
        -- Planned for the values at hand: where nothing is filtered, nothing is left of the second condition.
        WHERE ($6::integer IS NULL OR parts.endpoint_id = $6)
          AND (($3::text IS NULL AND $4::text IS NULL AND $5::text IS NULL) OR parts.endpoint_id IN (SELECT id FROM picked))
        GROUP BY parts.endpoint_id
    ) AS summed ON summed.endpoint_id = picked.id
    WHERE summed.endpoint_id IS NOT NULL OR $6::integer IS NOT NULL
) AS found ON true
ORDER BY edges.ordinal
