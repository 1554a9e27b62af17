-- name: make the room of folded deltas usable again
-- Every question reads the table from end to end, dead rows too, and autovacuum comes once a minute. Does not give the end of
-- the file back: that takes a lock that keeps everybody out, on read replicas too. Where autovacuum is at it, there is nothing
-- to do. While many come in the room is used again at once; shrink_deltas.sql gives it back afterwards.
VACUUM (TRUNCATE OFF, SKIP_LOCKED) rollup_deltas
