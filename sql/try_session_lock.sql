-- name: take an advisory lock until the connection closes, or say that another has it
-- $1: the name of the lock. For what cannot run in a transaction.
SELECT pg_try_advisory_lock(hashtext('endpoint_stats'), hashtext($1))
