-- name: the daily view has seen every day before today closed
-- $1: today, a UTC day. In the transaction of the refresh, under the rollups lock. Returns how many days were stale.
WITH cleared AS (
    DELETE FROM stale_days RETURNING day
),
seen AS (
    UPDATE rollup_state
    SET view_through = GREATEST(view_through, $1::date - 1), data_generation = data_generation + 1
)
SELECT COUNT(*) FROM cleared
