-- name: leave the present instant for the read replicas, and say which database this is
-- Not more than about once a second, however many processes beat. A beat from the future is replaced too: after a failover
-- to a machine whose clock is behind, it would promise what a replica does not have yet.
WITH beat AS (
    UPDATE replication_beat
    SET beat_at = clock_timestamp()
    WHERE beat_at NOT BETWEEN clock_timestamp() - interval '900 ms' AND clock_timestamp()
)
SELECT installation::text FROM rollup_state
