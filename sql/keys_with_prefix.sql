-- name: the idempotency keys that begin like this
-- $1: the beginning.
SELECT idempotency_key FROM ingest_batches WHERE starts_with(idempotency_key, $1)
