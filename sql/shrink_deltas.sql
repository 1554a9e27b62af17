-- name: give back the room that many deltas once took
-- Every question reads the table from end to end. Takes a lock that keeps everybody out, but only where it is free, and gives it
-- up as soon as somebody waits.
VACUUM (TRUNCATE ON, SKIP_LOCKED) rollup_deltas
