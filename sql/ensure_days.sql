-- name: make the partitions of some days
-- $1: the days. Returns how many were made.
SELECT COUNT(*) FILTER (WHERE ensure_requests_day(day)) FROM unnest($1::date[]) AS wanted (day)
