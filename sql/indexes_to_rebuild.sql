-- name: the indexes of the tables whose rows change, and what is left of rebuilding them
-- The statement that rebuilds each or, first, removes what a rebuilding that was cut off has left. Not those of requests:
-- their rows only ever come and go by the day.
SELECT
    index.relname AS name,
    CASE
        WHEN left_over.behind THEN format('DROP INDEX CONCURRENTLY %I.%I', namespace.nspname, index.relname)
        ELSE format('REINDEX INDEX CONCURRENTLY %I.%I', namespace.nspname, index.relname)
    END AS statement
FROM pg_index
JOIN pg_class AS index ON index.oid = pg_index.indexrelid
JOIN pg_class AS class ON class.oid = pg_index.indrelid
JOIN pg_namespace AS namespace ON namespace.oid = index.relnamespace
CROSS JOIN LATERAL (SELECT NOT pg_index.indisvalid AND index.relname ~ '_cc(new|old)[0-9]*$') AS left_over (behind)
WHERE class.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'requests'::regclass)
  AND class.relname IN ('endpoints', 'endpoint_minute_stats', 'endpoint_hourly_stats', 'endpoint_daily_stats', 'ingest_batches', 'job_runs')
  -- Somebody is just rebuilding one of this table.
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index AS progress WHERE progress.relid = class.oid)
ORDER BY left_over.behind DESC, class.relname, index.relname
