-- name: write the counts of a flush
COPY rollup_deltas (bucket, endpoint_id, request_count, redirect_count, client_error_count, error_count, timed_count,
    total_response_time_us, min_response_time_us, max_response_time_us, latency_histogram) FROM STDIN (FORMAT BINARY)
