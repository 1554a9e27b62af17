-- name: write the raw requests of a small flush, sorted by endpoint
-- $1 to $5: a column each. One message there and one back; COPY takes two, and the second waits for an acknowledgement that
-- the other side delays.
INSERT INTO requests (timestamp, response_time_us, endpoint_id, status, trace_id)
SELECT * FROM unnest($1::timestamptz[], $2::bigint[], $3::integer[], $4::smallint[], $5::text[])
