-- name: take an advisory lock until the end of the transaction, or say that another has it
-- $1: the name of the lock.
SELECT pg_try_advisory_xact_lock(hashtext('endpoint_stats'), hashtext($1))
