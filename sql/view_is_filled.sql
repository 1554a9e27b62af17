-- name: whether the daily view was ever filled
-- After a restore that left it empty, say; REFRESH … CONCURRENTLY then refuses.
SELECT relispopulated FROM pg_class WHERE oid = 'endpoint_daily_stats'::regclass
