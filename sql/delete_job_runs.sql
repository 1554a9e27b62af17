-- name: delete some of the old runs of jobs
-- $1: those due before; $2: at most this many. Returns how many. The last run of each job stays, as does the last that was
-- due by schedule: without it the job would be new, and its slot run again. So does what nobody has finished.
WITH expired AS (
    SELECT run.ctid
    FROM job_runs AS run
    WHERE run.slot < $1 AND (run.outcome NOT IN ('running', 'interrupted') OR (run.by_hand AND run.outcome = 'interrupted'))
      AND EXISTS (
          SELECT FROM job_runs AS newer
          WHERE newer.job = run.job AND newer.slot > run.slot AND (run.by_hand OR NOT newer.by_hand)
      )
    LIMIT $2
    FOR UPDATE OF run SKIP LOCKED
),
deleted AS (
    DELETE FROM job_runs WHERE ctid = ANY (ARRAY(SELECT ctid FROM expired))
    RETURNING 1
)
SELECT COUNT(*) FROM deleted
