-- name: write the raw requests of a flush, sorted by endpoint
COPY requests (timestamp, response_time_us, endpoint_id, status, trace_id) FROM STDIN (FORMAT BINARY)
