-- name: raw requests of one endpoint, all or those answered 5xx, newest first
-- $1 endpoint; $2, $3: beginning and end of the window, whole minutes; $4: at most this many; $5: look no further back than
-- the rollups say is enough; $6: only those answered 5xx. One row without request where there is none; none at all where there
-- is no such endpoint. Every row says from when on raw requests are kept: before that there is nothing, also where retention has
-- not come to drop it yet.
WITH enough AS MATERIALIZED (
    -- From here on the rollups count $4 of them, so that the rest of a long window need not be read, whatever index a day has:
    -- BRINs alone (the open day), one by minute (closed days), one by instant (days closed before there was the one by minute).
    SELECT GREATEST($2::timestamptz, CASE WHEN $5::boolean THEN COALESCE(
        (
            SELECT minutes.minute
            FROM (
                SELECT minute,
                    SUM(CASE WHEN $6::boolean THEN error_count ELSE request_count END) OVER (ORDER BY minute DESC) AS seen
                FROM endpoint_minute_stats
                WHERE endpoint_id = $1 AND minute >= GREATEST($2, (SELECT minutes_since FROM rollup_state))
                  AND minute <= $3::timestamptz - interval '1 minute'
            ) AS minutes
            WHERE minutes.seen >= $4::bigint
            ORDER BY minutes.minute DESC
            LIMIT 1
        ),
        (
            SELECT hours.hour
            FROM (
                SELECT hour,
                    SUM(CASE WHEN $6::boolean THEN error_count ELSE request_count END) OVER (ORDER BY hour DESC) AS seen
                FROM endpoint_hourly_stats
                WHERE endpoint_id = $1 AND hour >= $2 AND hour <= $3::timestamptz - interval '1 hour'
            ) AS hours
            WHERE hours.seen >= $4::bigint
            ORDER BY hours.hour DESC
            LIMIT 1
        )
    ) END) AS instant
)
SELECT endpoints.service, endpoints.method, endpoints.route, NULLIF(rollup_state.raw_since, '-infinity') AS raw_since,
    (SELECT instant > $2 FROM enough) AS shortened, found.*
FROM endpoints
CROSS JOIN rollup_state
LEFT JOIN LATERAL (
    SELECT requests.timestamp, requests.status, requests.response_time_us, requests.trace_id
    FROM requests
    WHERE requests.endpoint_id = $1 AND requests.timestamp >= $2 AND requests.timestamp < $3
      AND requests.timestamp >= rollup_state.raw_since AND requests.timestamp >= (SELECT instant FROM enough)
      AND (NOT $6::boolean OR requests.status >= 500)
      -- Says nothing new, except to the index by minute.
      AND date_bin('1 minute', requests.timestamp, '2000-01-01T00:00Z') >= date_bin('1 minute', $2, '2000-01-01T00:00Z')
      AND date_bin('1 minute', requests.timestamp, '2000-01-01T00:00Z')
          >= (SELECT date_bin('1 minute', instant, '2000-01-01T00:00Z') FROM enough)
      AND date_bin('1 minute', requests.timestamp, '2000-01-01T00:00Z') < $3
    ORDER BY requests.timestamp DESC
    LIMIT $4
) AS found ON true
WHERE endpoints.id = $1
