-- name: how much room the deltas take on disk, bytes
SELECT pg_relation_size('rollup_deltas')
