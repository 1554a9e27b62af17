-- name: where the hours of one day do not say what its raw requests say
-- $1, $2: midnight and the next. $3: at most this many differences. One snapshot, unfolded deltas included.
-- The bucket of a response time is found by its logarithm; 1e-12 is far above the error of ln() here and far below the
-- distance of any whole microsecond up to 24 hours from an edge that is not whole.
WITH lanes AS (
    SELECT bucket, ('1' || repeat('0', 12 * bucket))::numeric AS unit FROM generate_series(0, 300) AS bucket
),
raw_buckets AS (
    SELECT
        endpoint_id,
        date_trunc('hour', timestamp, 'UTC') AS hour,
        CASE WHEN response_time_us <= 1 THEN 0 ELSE CEIL(8 * LN(response_time_us::double precision) / LN(2::double precision) - 1e-12) END::integer AS bucket,
        COUNT(*) AS requests,
        COUNT(*) FILTER (WHERE status BETWEEN 300 AND 399) AS redirects,
        COUNT(*) FILTER (WHERE status BETWEEN 400 AND 499) AS client_errors,
        COUNT(*) FILTER (WHERE status >= 500) AS errors,
        COUNT(response_time_us) AS timed,
        SUM(response_time_us) AS total_us,
        MIN(response_time_us) AS min_us,
        MAX(response_time_us) AS max_us
    FROM requests
    WHERE timestamp >= $1 AND timestamp < $2
    GROUP BY 1, 2, 3
),
raw AS (
    SELECT
        endpoint_id, hour,
        SUM(requests) AS requests, SUM(redirects) AS redirects, SUM(client_errors) AS client_errors, SUM(errors) AS errors,
        SUM(timed) AS timed, COALESCE(SUM(total_us), 0) AS total_us, MIN(min_us) AS min_us, MAX(max_us) AS max_us,
        COALESCE(SUM(timed * lanes.unit), 0) AS histogram
    FROM raw_buckets
    LEFT JOIN lanes USING (bucket)
    GROUP BY endpoint_id, hour
),
rollup AS (
    SELECT
        endpoint_id, hour,
        SUM(request_count) AS requests, SUM(redirect_count) AS redirects, SUM(client_error_count) AS client_errors,
        SUM(error_count) AS errors, SUM(timed_count) AS timed, SUM(total_response_time_us) AS total_us,
        MIN(min_response_time_us) AS min_us, MAX(max_response_time_us) AS max_us, SUM(latency_histogram) AS histogram
    FROM (
        SELECT * FROM endpoint_hourly_stats WHERE hour >= $1 AND hour < $2
        UNION ALL
        SELECT * FROM rollup_deltas WHERE bucket >= $1 AND bucket < $2
    ) AS parts (bucket, endpoint_id, request_count, redirect_count, client_error_count, error_count, timed_count,
        total_response_time_us, min_response_time_us, max_response_time_us, latency_histogram)
    CROSS JOIN LATERAL (SELECT date_trunc('hour', parts.bucket, 'UTC')) AS truncated (hour)
    GROUP BY endpoint_id, hour
)
SELECT
    hour, endpoint_id, endpoints.service, endpoints.method, endpoints.route, difference.what,
    'rollup' AS told_by, difference.rollup AS told, 'raw' AS known_from, difference.raw AS known
FROM rollup
FULL JOIN raw USING (endpoint_id, hour)
LEFT JOIN endpoints ON endpoints.id = endpoint_id
CROSS JOIN LATERAL (
    VALUES
        (1, 'requests', rollup.requests::text, raw.requests::text),
        (2, 'redirects', rollup.redirects::text, raw.redirects::text),
        (3, 'client_errors', rollup.client_errors::text, raw.client_errors::text),
        (4, 'errors', rollup.errors::text, raw.errors::text),
        (5, 'timed requests', rollup.timed::text, raw.timed::text),
        (6, 'total response time (us)', rollup.total_us::text, raw.total_us::text),
        (7, 'shortest response time (us)', rollup.min_us::text, raw.min_us::text),
        (8, 'longest response time (us)', rollup.max_us::text, raw.max_us::text),
        (9, 'latency histogram', rollup.histogram::text, raw.histogram::text)
) AS difference (position, what, rollup, raw)
WHERE difference.rollup IS DISTINCT FROM difference.raw
ORDER BY hour, endpoint_id, difference.position
LIMIT $3
