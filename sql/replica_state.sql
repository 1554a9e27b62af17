-- name: as of when a replica is, of which state of the closed days, and of which database
-- beat_at is NULL before the first beat. Whatever is read on the same connection afterwards is at least as new.
SELECT NULLIF(beat_at, '-infinity') AS beat_at, data_generation, installation::text AS installation
FROM replication_beat
CROSS JOIN rollup_state
