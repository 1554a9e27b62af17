-- name: write the raw requests of a small flush, sorted by endpoint, and the counts of it
-- $1 to $5: a column each of the requests; $6 to $16: of the counts. One message there and one back; COPY takes two, and the
-- second waits for an acknowledgement that the other side delays.
WITH stored AS (
    INSERT INTO requests (timestamp, response_time_us, endpoint_id, status, trace_id)
    SELECT * FROM unnest($1::timestamptz[], $2::bigint[], $3::integer[], $4::smallint[], $5::text[])
)
INSERT INTO rollup_deltas (bucket, endpoint_id, request_count, redirect_count, client_error_count, error_count, timed_count,
    total_response_time_us, min_response_time_us, max_response_time_us, latency_histogram)
SELECT * FROM unnest($6::timestamptz[], $7::integer[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[],
    $12::bigint[], $13::numeric[], $14::bigint[], $15::bigint[], $16::numeric[])
