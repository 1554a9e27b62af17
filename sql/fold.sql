-- name: move deltas into the minutes and the hours
-- $1: today, a UTC day. $2: at most this many deltas. Returns how many were moved.
-- One statement, so one snapshot: exactly the deltas that are deleted are added. Runs under the rollups lock, so nobody
-- else writes minutes or hours, and a refresh cannot miss a day that is marked stale here. Rows are written in key order.
WITH moved AS (
    DELETE FROM rollup_deltas
    WHERE ctid = ANY (ARRAY(SELECT ctid FROM rollup_deltas LIMIT $2))
    RETURNING *
),
summed AS (
    -- Many deltas are of the same minute and endpoint: they are added once, and the hours are made of the sums.
    SELECT moved.bucket, moved.endpoint_id,
        COUNT(*) AS deltas,
        SUM(moved.request_count)::bigint AS request_count,
        SUM(moved.redirect_count)::bigint AS redirect_count,
        SUM(moved.client_error_count)::bigint AS client_error_count,
        SUM(moved.error_count)::bigint AS error_count,
        SUM(moved.timed_count)::bigint AS timed_count,
        SUM(moved.total_response_time_us) AS total_response_time_us,
        MIN(moved.min_response_time_us) AS min_response_time_us,
        MAX(moved.max_response_time_us) AS max_response_time_us,
        SUM(moved.latency_histogram) AS latency_histogram
    FROM moved
    GROUP BY moved.bucket, moved.endpoint_id
),
minutes AS (
    -- Before minutes_since there are no minutes; a delta from there is an hour's, whole.
    INSERT INTO endpoint_minute_stats (minute, endpoint_id, request_count, redirect_count, client_error_count, error_count, timed_count,
        total_response_time_us, min_response_time_us, max_response_time_us, latency_histogram)
    SELECT bucket, endpoint_id, request_count, redirect_count, client_error_count, error_count, timed_count, total_response_time_us,
        min_response_time_us, max_response_time_us, latency_histogram
    FROM summed
    WHERE bucket >= (SELECT minutes_since FROM rollup_state)
    ORDER BY bucket, endpoint_id
    ON CONFLICT (minute, endpoint_id) DO UPDATE SET
            request_count = endpoint_minute_stats.request_count + EXCLUDED.request_count,
            redirect_count = endpoint_minute_stats.redirect_count + EXCLUDED.redirect_count,
            client_error_count = endpoint_minute_stats.client_error_count + EXCLUDED.client_error_count,
            error_count = endpoint_minute_stats.error_count + EXCLUDED.error_count,
            timed_count = endpoint_minute_stats.timed_count + EXCLUDED.timed_count,
            total_response_time_us = endpoint_minute_stats.total_response_time_us + EXCLUDED.total_response_time_us,
            min_response_time_us = LEAST(endpoint_minute_stats.min_response_time_us, EXCLUDED.min_response_time_us),
            max_response_time_us = GREATEST(endpoint_minute_stats.max_response_time_us, EXCLUDED.max_response_time_us),
            latency_histogram = endpoint_minute_stats.latency_histogram + EXCLUDED.latency_histogram
),
hours AS (
    INSERT INTO endpoint_hourly_stats (hour, endpoint_id, request_count, redirect_count, client_error_count, error_count, timed_count,
        total_response_time_us, min_response_time_us, max_response_time_us, latency_histogram)
    SELECT date_trunc('hour', summed.bucket, 'UTC') AS hour, summed.endpoint_id,
        SUM(summed.request_count)::bigint AS request_count,
        SUM(summed.redirect_count)::bigint AS redirect_count,
        SUM(summed.client_error_count)::bigint AS client_error_count,
        SUM(summed.error_count)::bigint AS error_count,
        SUM(summed.timed_count)::bigint AS timed_count,
        SUM(summed.total_response_time_us) AS total_response_time_us,
        MIN(summed.min_response_time_us) AS min_response_time_us,
        MAX(summed.max_response_time_us) AS max_response_time_us,
        SUM(summed.latency_histogram) AS latency_histogram
    FROM summed
    GROUP BY hour, summed.endpoint_id
    ORDER BY hour, summed.endpoint_id
    ON CONFLICT (hour, endpoint_id) DO UPDATE SET
            request_count = endpoint_hourly_stats.request_count + EXCLUDED.request_count,
            redirect_count = endpoint_hourly_stats.redirect_count + EXCLUDED.redirect_count,
            client_error_count = endpoint_hourly_stats.client_error_count + EXCLUDED.client_error_count,
            error_count = endpoint_hourly_stats.error_count + EXCLUDED.error_count,
            timed_count = endpoint_hourly_stats.timed_count + EXCLUDED.timed_count,
            total_response_time_us = endpoint_hourly_stats.total_response_time_us + EXCLUDED.total_response_time_us,
            min_response_time_us = LEAST(endpoint_hourly_stats.min_response_time_us, EXCLUDED.min_response_time_us),
            max_response_time_us = GREATEST(endpoint_hourly_stats.max_response_time_us, EXCLUDED.max_response_time_us),
            latency_histogram = endpoint_hourly_stats.latency_histogram + EXCLUDED.latency_histogram
),
closed AS (
    -- Days that readers may take for closed: those before today, and, should this replica's clock be behind that of the
    -- one that refreshed last, those the view speaks for.
    SELECT DISTINCT (summed.bucket AT TIME ZONE 'UTC')::date AS day
    FROM summed
    CROSS JOIN rollup_state
    WHERE (summed.bucket AT TIME ZONE 'UTC')::date < GREATEST($1::date, rollup_state.view_through + 1)
),
marked AS (
    INSERT INTO stale_days (day)
    SELECT day FROM closed ORDER BY day
    ON CONFLICT (day) DO NOTHING
),
generation AS (
    UPDATE rollup_state SET data_generation = data_generation + 1
    WHERE EXISTS (SELECT FROM closed)
)
SELECT COALESCE(SUM(deltas), 0)::bigint FROM summed
