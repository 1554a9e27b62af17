-- name: the statements that give a closed day its btree
-- $1: the day. One column each: drop what a broken build left, build.
SELECT
    format('DROP INDEX CONCURRENTLY IF EXISTS %I', 'idx_requests_endpoint_timestamp_' || to_char($1::date, 'YYYYMMDD')) AS clear,
    format('CREATE INDEX CONCURRENTLY %I ON %I (endpoint_id, timestamp)',
        'idx_requests_endpoint_timestamp_' || to_char($1::date, 'YYYYMMDD'), 'requests_' || to_char($1::date, 'YYYYMMDD')) AS build
