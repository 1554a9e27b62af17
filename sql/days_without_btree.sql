-- name: closed days of requests that still lack their btree
-- $1: the first day that is not closed. Oldest first. An index left invalid by a broken build counts as lacking. Not those that
-- are about to be dropped.
WITH days AS (
    -- CASE, since the planner may look at the name of any table before it knows which are partitions.
    SELECT
        child.oid, right(child.relname, 8) AS suffix,
        CASE WHEN child.relname ~ '^requests_[0-9]{8}$' THEN to_date(right(child.relname, 8), 'YYYYMMDD') END AS day
    FROM pg_inherits
    JOIN pg_class AS child ON child.oid = pg_inherits.inhrelid
    WHERE pg_inherits.inhparent = 'requests'::regclass AND NOT pg_inherits.inhdetachpending
)
SELECT days.day
FROM days
WHERE days.day < $1::date
  AND days.day >= (SELECT (raw_since AT TIME ZONE 'UTC')::date FROM rollup_state)
  AND NOT EXISTS (
      SELECT
      FROM pg_index
      JOIN pg_class AS index ON index.oid = pg_index.indexrelid
      WHERE pg_index.indrelid = days.oid
        AND pg_index.indisvalid
        -- The second is what days were given before there was the first: it does as well, and goes with its day.
        AND index.relname IN ('idx_requests_endpoint_minute_' || days.suffix, 'idx_requests_endpoint_timestamp_' || days.suffix)
  )
ORDER BY days.day
