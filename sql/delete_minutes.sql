-- name: delete some of the minutes that are no longer told
-- $1: where the last piece ended, NULL at first, so that no piece goes through what those before it left dead; $2: at most
-- this many. Returns how many, and where it ended. Never waits for a fold, which writes in another order: a row that one is
-- just writing is left to the next run.
WITH expired AS (
    SELECT ctid
    FROM endpoint_minute_stats
    WHERE minute >= COALESCE($1::timestamptz, '-infinity') AND minute < (SELECT minutes_since FROM rollup_state)
    ORDER BY minute
    LIMIT $2
    FOR UPDATE SKIP LOCKED
),
deleted AS (
    DELETE FROM endpoint_minute_stats WHERE ctid = ANY (ARRAY(SELECT ctid FROM expired))
    RETURNING minute
)
SELECT COUNT(*) AS deleted, MAX(minute) AS through FROM deleted
