-- name: closed days of requests that still lack their btree
-- $1: the first day that is not closed. Oldest first. An index left invalid by a broken build counts as lacking.
SELECT to_date(right(child.relname, 8), 'YYYYMMDD') AS day
FROM pg_inherits
JOIN pg_class AS child ON child.oid = pg_inherits.inhrelid
WHERE pg_inherits.inhparent = 'requests'::regclass
  AND to_date(right(child.relname, 8), 'YYYYMMDD') < $1::date
  AND NOT EXISTS (
      SELECT
      FROM pg_index
      JOIN pg_class AS index ON index.oid = pg_index.indexrelid
      WHERE pg_index.indrelid = child.oid
        AND pg_index.indisvalid
        AND index.relname = 'idx_requests_endpoint_timestamp_' || right(child.relname, 8)
  )
ORDER BY day
