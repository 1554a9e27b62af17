-- name: the tables whose rows changed since the planner was last told about them
-- As they are written in a statement, fewest changes first. Days of requests each for themselves: a question is planned by
-- the days it reads.
SELECT format('%I.%I', tables.schemaname, tables.relname)
FROM pg_stat_user_tables AS tables
JOIN pg_class AS class ON class.oid = tables.relid
WHERE class.relkind IN ('r', 'm')
  AND tables.schemaname = (SELECT nspname FROM pg_namespace WHERE oid = (SELECT relnamespace FROM pg_class WHERE oid = 'requests'::regclass))
  AND (
      tables.relname IN ('endpoints', 'rollup_deltas', 'endpoint_minute_stats', 'endpoint_hourly_stats', 'endpoint_daily_stats', 'ingest_batches', 'job_runs')
      OR tables.relid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'requests'::regclass)
  )
  AND (tables.n_mod_since_analyze > 0 OR (tables.last_analyze IS NULL AND tables.last_autoanalyze IS NULL AND tables.n_live_tup > 0))
ORDER BY tables.n_mod_since_analyze, tables.relname
