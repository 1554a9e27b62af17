-- name: bring the daily view up to date
REFRESH MATERIALIZED VIEW CONCURRENTLY endpoint_daily_stats
