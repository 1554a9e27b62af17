-- name: write the counts of a flush
-- $1 to $11: a column each.
INSERT INTO rollup_deltas (bucket, endpoint_id, request_count, redirect_count, client_error_count, error_count, timed_count,
    total_response_time_us, min_response_time_us, max_response_time_us, latency_histogram)
SELECT * FROM unnest($1::timestamptz[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::numeric[], $9::bigint[], $10::bigint[], $11::numeric[])
