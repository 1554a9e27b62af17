-- name: fill a daily view that never was
REFRESH MATERIALIZED VIEW endpoint_daily_stats
