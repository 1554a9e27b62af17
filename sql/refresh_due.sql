-- name: whether the daily view has something to catch up with
-- $1: today, a UTC day.
SELECT rollup_state.view_through < $1::date - 1 OR EXISTS (SELECT FROM stale_days) FROM rollup_state
