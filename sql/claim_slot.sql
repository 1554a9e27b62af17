-- name: take a slot of a job, if there is one to take
-- $1 job; $2 the slot that is due, or, by hand, the present instant; $3: by hand; $4: the present instant; $5: who asks;
-- $6: whether a job that was never seen begins with this slot or waits for its next. In the session that holds the job's lock,
-- so whatever is said to be running is not. A run that was cut off is finished before the next slot begins; a slot older than
-- one that was begun is over, also where it failed and would be tried again; and of slots missed only the last is made up for.
-- What is asked for by hand has an instant of its own, that of no slot and of no other run.
-- Returns the slot and what became of it: won, settled, new, waiting (until retry_at), or changed, if a runner that had lost its
-- session wrote down the end of its run while this waited for the row: then it is to be asked again.
WITH wanted AS (
    SELECT CASE
        -- Slots of schedules are whole seconds.
        WHEN $3 THEN GREATEST(
            $2::timestamptz,
            date_trunc('second', $2::timestamptz) + interval '1 microsecond',
            (SELECT MAX(slot) + interval '1 microsecond' FROM job_runs WHERE job = $1 AND by_hand)
        )
        ELSE COALESCE(
            (SELECT MIN(slot) FROM job_runs
             WHERE job = $1 AND NOT by_hand AND outcome IN ('running', 'interrupted') AND slot <= $2),
            $2
        )
    END AS slot
),
taken AS (
    INSERT INTO job_runs (job, slot, outcome, by_hand, started_at, runner)
    SELECT $1, wanted.slot,
        CASE WHEN $3 OR $6 OR EXISTS (SELECT FROM job_runs WHERE job = $1 AND NOT by_hand) THEN 'running' ELSE 'new' END,
        $3, clock_timestamp(), $5
    FROM wanted
    WHERE $3 OR NOT EXISTS (SELECT FROM job_runs AS later WHERE later.job = $1 AND NOT later.by_hand
            -- One that is far from due was begun by a clock that had jumped ahead, and holds nobody up.
            AND later.slot > wanted.slot AND later.slot <= $4::timestamptz + interval '10 minutes')
        OR EXISTS (SELECT FROM job_runs AS same WHERE same.job = $1 AND same.slot = wanted.slot AND same.outcome IN ('running', 'interrupted'))
    ON CONFLICT (job, slot) DO UPDATE
        SET outcome = 'running', attempts = job_runs.attempts + 1, started_at = EXCLUDED.started_at, runner = EXCLUDED.runner,
            rows = NULL, duration_ms = NULL, error = NULL, retry_at = NULL
        WHERE job_runs.outcome IN ('running', 'interrupted') OR (job_runs.outcome = 'failed' AND job_runs.retry_at <= $4)
    RETURNING outcome, attempts
)
SELECT
    wanted.slot,
    CASE
        WHEN taken.outcome = 'running' THEN 'won'
        WHEN taken.outcome = 'new' THEN 'new'
        WHEN known.outcome IN ('running', 'interrupted') THEN 'changed'
        WHEN known.retry_at > $4 THEN 'waiting'
        ELSE 'settled'
    END AS verdict,
    COALESCE(taken.attempts, known.attempts, 0) AS attempts,
    known.retry_at
FROM wanted
LEFT JOIN taken ON true
LEFT JOIN job_runs AS known ON known.job = $1 AND known.slot = wanted.slot
