-- name: end the runs of a job that nobody will finish
-- $1 job; $2: how often a run may be begun. In the session that holds the job's lock, so whatever is said to be running is not.
-- What was asked for by hand has gone with its process, unless it was told to stop; and a run that took every process with it
-- is not begun for ever.
UPDATE job_runs
SET outcome = 'failed', retry_at = NULL,
    error = CASE WHEN by_hand THEN 'its process ended before it did' ELSE format('given up after it was begun %s times and its process ended each time', attempts) END
WHERE job = $1 AND outcome = 'running' AND (by_hand OR attempts >= $2)
