-- name: say how a run ended
-- $1 job, $2 slot, $3: which attempt, $4 outcome, $5 rows, $6 milliseconds, $7 error, $8: from when on it is tried again.
-- What was asked for by hand is not tried again by itself. Nothing is written where another has taken the run over meanwhile.
UPDATE job_runs
SET outcome = $4, rows = $5, duration_ms = $6, error = $7, retry_at = CASE WHEN NOT by_hand THEN $8::timestamptz END
WHERE job = $1 AND slot = $2 AND attempts = $3 AND outcome = 'running'
RETURNING true
