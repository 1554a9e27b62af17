-- name: make the partitions of some days
-- $1: the days. Returns how many were made. Days whose raw requests are no longer kept are not made: a replica that still
-- believes in them would bring back what retention has dropped.
SELECT COUNT(*) FILTER (WHERE ensure_requests_day(wanted.day))
FROM unnest($1::date[]) AS wanted (day)
WHERE wanted.day::timestamp AT TIME ZONE 'UTC' >= (SELECT raw_since FROM rollup_state)
