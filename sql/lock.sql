-- name: take an advisory lock until the end of the transaction, waiting for it
-- $1: the name of the lock.
SELECT pg_advisory_xact_lock(hashtext('endpoint_stats'), hashtext($1))
