-- name: say how far a run is
-- $1 job, $2 slot, $3: which attempt, $4: rows so far. Returns whether the run is still that attempt's.
UPDATE job_runs SET rows = $4 WHERE job = $1 AND slot = $2 AND attempts = $3 AND outcome = 'running' RETURNING true
