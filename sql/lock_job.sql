-- name: take the lock of a job until the session ends, or say that another session has it
-- $1: the job. The time comes with it, since it is the database's time that decides which slot is due.
SELECT
    pg_try_advisory_lock(hashtext('endpoint_stats'), hashtext('job ' || $1)) AS locked,
    clock_timestamp() AS database_time
