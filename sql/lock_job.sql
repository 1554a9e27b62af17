-- name: take the lock of a job until the session ends, or say that another session has it
-- $1: the job. $2: whether it takes turns with others, whose common lock is then taken too. The time comes with it, since it is
-- the database's time that decides which slot is due.
SELECT
    pg_try_advisory_lock(hashtext('endpoint_stats'), hashtext('job ' || $1))
        AND (NOT $2 OR pg_try_advisory_lock(hashtext('endpoint_stats'), hashtext('jobs that take turns'))) AS locked,
    clock_timestamp() AS database_time
