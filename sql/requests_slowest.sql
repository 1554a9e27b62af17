-- name: raw requests of one endpoint, slowest first
-- $1 endpoint; $2, $3: beginning and end of the window, whole minutes; $4: at most this many. One row without request where
-- there is none; none at all where there is no such endpoint. Every row says from when on raw requests are kept: before that
-- there is nothing, also where retention has not come to drop it yet.
SELECT endpoints.service, endpoints.method, endpoints.route, NULLIF(rollup_state.raw_since, '-infinity') AS raw_since,
    false AS shortened, found.*
FROM endpoints
CROSS JOIN rollup_state
LEFT JOIN LATERAL (
    SELECT requests.timestamp, requests.status, requests.response_time_us, requests.trace_id
    FROM requests
    WHERE requests.endpoint_id = $1 AND requests.timestamp >= $2 AND requests.timestamp < $3
      AND requests.timestamp >= rollup_state.raw_since AND requests.response_time_us IS NOT NULL
      -- Says nothing new, except to the index by minute that closed days have. All three bounds, raw_since being a midnight:
      -- one that is not known before leads the planner to expect few rows, and so to prefer whatever index is given it. Were it
      -- given to the BRINs alone, a closed day would be read whole.
      AND date_bin('1 minute', requests.timestamp, '2000-01-01T00:00Z') >= date_bin('1 minute', $2, '2000-01-01T00:00Z')
      AND date_bin('1 minute', requests.timestamp, '2000-01-01T00:00Z') < $3
      AND date_bin('1 minute', requests.timestamp, '2000-01-01T00:00Z') >= rollup_state.raw_since
    ORDER BY requests.response_time_us DESC, requests.timestamp DESC
    LIMIT $4
) AS found ON true
WHERE endpoints.id = $1
