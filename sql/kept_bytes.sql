-- name: how many bytes the raw requests, the minutes and the hours take, indexes included
-- $1: the comment that marks a day as being dropped: it counts until it is gone.
SELECT
    (SELECT COALESCE(SUM(pg_total_relation_size(days.oid)), 0)::bigint
     FROM pg_class AS days
     LEFT JOIN pg_inherits ON pg_inherits.inhrelid = days.oid
     WHERE days.relkind = 'r' AND days.relname LIKE 'requests\_%'
       AND (pg_inherits.inhparent = 'requests'::regclass
            OR (pg_inherits.inhrelid IS NULL AND obj_description(days.oid, 'pg_class') = $1))) AS requests,
    pg_total_relation_size('endpoint_minute_stats') AS minutes,
    pg_total_relation_size('endpoint_hourly_stats') AS hours
