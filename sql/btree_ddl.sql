-- name: the statements that give a closed day its btree
-- $1: the day. One column each: drop what a broken build left, of this index and of the one that days had before, build.
-- By the minute and not by the instant: keys that repeat are stored once, which takes 7 bytes a row instead of 31.
SELECT
    format('DROP INDEX CONCURRENTLY IF EXISTS %I', 'idx_requests_endpoint_minute_' || to_char($1::date, 'YYYYMMDD')) AS clear,
    format('DROP INDEX CONCURRENTLY IF EXISTS %I', 'idx_requests_endpoint_timestamp_' || to_char($1::date, 'YYYYMMDD')) AS clear_older,
    format('CREATE INDEX CONCURRENTLY %I ON %I (endpoint_id, date_bin(''1 minute'', timestamp, ''2000-01-01T00:00Z''))',
        'idx_requests_endpoint_minute_' || to_char($1::date, 'YYYYMMDD'), 'requests_' || to_char($1::date, 'YYYYMMDD')) AS build
