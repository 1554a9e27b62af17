-- name: the rollups, what else is updated and deleted from, and the days of requests that are open
-- $1: the first day that counts as open. As they are written in a statement. A day that has closed only ever had rows added.
SELECT format('%I.%I', namespace.nspname, class.relname)
FROM pg_class AS class
JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE class.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'requests'::regclass)
  AND class.relkind IN ('r', 'm')
  AND (
      class.relname IN ('endpoints', 'rollup_deltas', 'endpoint_minute_stats', 'endpoint_hourly_stats', 'endpoint_daily_stats',
          'stale_days', 'rollup_state', 'ingest_batches', 'job_runs')
      OR (
          class.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'requests'::regclass)
          AND class.relname >= 'requests_' || to_char($1::date, 'YYYYMMDD')
      )
  )
ORDER BY class.relname
