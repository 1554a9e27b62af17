-- name: where the minutes or the daily view of one day do not say what its hours say
-- $1: midnight, $2: the next, $3: at most this many differences. One snapshot. The hours themselves are compared with the
-- raw requests by verify_day.
WITH hours AS (
    SELECT * FROM endpoint_hourly_stats WHERE hour >= $1 AND hour < $2
),
minutes AS (
    SELECT
        date_trunc('hour', minute, 'UTC') AS start, endpoint_id,
        SUM(request_count) AS requests, SUM(redirect_count) AS redirects, SUM(client_error_count) AS client_errors,
        SUM(error_count) AS errors, SUM(timed_count) AS timed, SUM(total_response_time_us) AS total_us,
        MIN(min_response_time_us) AS min_us, MAX(max_response_time_us) AS max_us, SUM(latency_histogram) AS histogram
    FROM endpoint_minute_stats
    WHERE minute >= GREATEST($1, (SELECT minutes_since FROM rollup_state)) AND minute < $2
    GROUP BY start, endpoint_id
),
spoken AS (
    -- The day, if the view speaks for it.
    SELECT FROM rollup_state
    WHERE ($1 AT TIME ZONE 'UTC')::date <= view_through
      AND NOT EXISTS (SELECT FROM stale_days WHERE day = ($1 AT TIME ZONE 'UTC')::date)
),
compared AS (
    SELECT
        'minutes' AS finer, COALESCE(minutes.start, hours.hour) AS start, COALESCE(minutes.endpoint_id, hours.endpoint_id) AS endpoint_id,
        minutes.requests, minutes.redirects, minutes.client_errors, minutes.errors, minutes.timed, minutes.total_us,
        minutes.min_us, minutes.max_us, minutes.histogram,
        hours.request_count, hours.redirect_count, hours.client_error_count, hours.error_count, hours.timed_count,
        hours.total_response_time_us, hours.min_response_time_us, hours.max_response_time_us, hours.latency_histogram
    FROM minutes
    FULL JOIN (SELECT * FROM hours WHERE hour >= (SELECT minutes_since FROM rollup_state)) AS hours
        ON hours.hour = minutes.start AND hours.endpoint_id = minutes.endpoint_id

    UNION ALL
    SELECT
        'daily view', $1, COALESCE(days.endpoint_id, summed.endpoint_id),
        days.request_count, days.redirect_count, days.client_error_count, days.error_count, days.timed_count,
        days.total_response_time_us, days.min_response_time_us, days.max_response_time_us, days.latency_histogram,
        summed.requests, summed.redirects, summed.client_errors, summed.errors, summed.timed,
        summed.total_us, summed.min_us, summed.max_us, summed.histogram
    FROM (SELECT * FROM endpoint_daily_stats WHERE day = ($1 AT TIME ZONE 'UTC')::date AND EXISTS (SELECT FROM spoken)) AS days
    FULL JOIN (
        SELECT
            endpoint_id,
            SUM(request_count) AS requests, SUM(redirect_count) AS redirects, SUM(client_error_count) AS client_errors,
            SUM(error_count) AS errors, SUM(timed_count) AS timed, SUM(total_response_time_us) AS total_us,
            MIN(min_response_time_us) AS min_us, MAX(max_response_time_us) AS max_us, SUM(latency_histogram) AS histogram
        FROM hours
        WHERE EXISTS (SELECT FROM spoken)
        GROUP BY endpoint_id
    ) AS summed ON summed.endpoint_id = days.endpoint_id
)
SELECT
    compared.start AS hour, compared.endpoint_id, endpoints.service, endpoints.method, endpoints.route,
    difference.what, compared.finer AS told_by, difference.told, 'hours' AS known_from, difference.known
FROM compared
LEFT JOIN endpoints ON endpoints.id = compared.endpoint_id
CROSS JOIN LATERAL (
    VALUES
        (1, 'requests', compared.requests::text, compared.request_count::text),
        (2, 'redirects', compared.redirects::text, compared.redirect_count::text),
        (3, 'client_errors', compared.client_errors::text, compared.client_error_count::text),
        (4, 'errors', compared.errors::text, compared.error_count::text),
        (5, 'timed requests', compared.timed::text, compared.timed_count::text),
        (6, 'total response time (us)', compared.total_us::text, compared.total_response_time_us::text),
        (7, 'shortest response time (us)', compared.min_us::text, compared.min_response_time_us::text),
        (8, 'longest response time (us)', compared.max_us::text, compared.max_response_time_us::text),
        (9, 'latency histogram', compared.histogram::text, compared.latency_histogram::text)
) AS difference (position, what, told, known)
WHERE difference.told IS DISTINCT FROM difference.known
ORDER BY compared.start, compared.endpoint_id, difference.position
LIMIT $3
