-- name: the last runs of some jobs, newest first
-- $1: the jobs; $2: at most this many of each. A run that says it is running while nobody holds the lock of its job was cut
-- off: it is told as interrupted.
SELECT
    last.job, last.slot,
    CASE
        WHEN last.outcome = 'running' AND NOT EXISTS (
            SELECT FROM pg_locks
            WHERE locktype = 'advisory' AND granted
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND classid = (hashtext('endpoint_stats')::bigint & 4294967295)::oid
              AND objid = (hashtext('job ' || last.job)::bigint & 4294967295)::oid
        ) THEN 'interrupted'
        ELSE last.outcome
    END AS outcome,
    last.rows, last.duration_ms, last.error, last.attempts, last.started_at, last.by_hand, last.retry_at
FROM unnest($1::text[]) AS asked (job)
CROSS JOIN LATERAL (
    SELECT * FROM job_runs WHERE job_runs.job = asked.job AND job_runs.outcome <> 'new' ORDER BY job_runs.slot DESC LIMIT $2
) AS last
ORDER BY last.job, last.slot DESC
