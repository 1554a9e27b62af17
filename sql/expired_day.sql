-- name: the next day of requests that retention drops, and the statements that do it
-- $1: the comment that marks a day as being dropped. At most one row: a day whose detaching was cut off goes first, since
-- Postgres detaches no other before; then the oldest. A table that is no partition any more is one of ours only if it has the
-- mark: what somebody detached to keep it is left alone.
SELECT
    days.relname AS name,
    pg_inherits.inhrelid IS NOT NULL AS attached,
    COALESCE(pg_inherits.inhdetachpending, false) AS pending,
    format('COMMENT ON TABLE %s IS %L', days.oid::regclass, $1::text) AS mark,
    format('ALTER TABLE %s DETACH PARTITION %s CONCURRENTLY', requests.oid::regclass, days.oid::regclass) AS detach,
    format('ALTER TABLE %s DETACH PARTITION %s FINALIZE', requests.oid::regclass, days.oid::regclass) AS finalize,
    format('DROP TABLE %s', days.oid::regclass) AS remove
FROM pg_class AS requests
JOIN pg_class AS days ON days.relnamespace = requests.relnamespace AND days.relkind = 'r'
LEFT JOIN pg_inherits ON pg_inherits.inhrelid = days.oid
WHERE requests.oid = 'requests'::regclass
  AND days.relname ~ '^requests_[0-9]{8}$'
  -- raw_since is a midnight, so the day ends by then if it comes before. Nothing does where all is kept: -infinity has no day.
  AND right(days.relname, 8) COLLATE "C" < (SELECT to_char(raw_since AT TIME ZONE 'UTC', 'YYYYMMDD') FROM rollup_state)
  AND (pg_inherits.inhparent = requests.oid
       OR (pg_inherits.inhrelid IS NULL AND obj_description(days.oid, 'pg_class') = $1))
ORDER BY pending DESC, days.relname
LIMIT 1
