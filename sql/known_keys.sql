-- name: what was answered under some idempotency keys
-- $1 keys.
SELECT idempotency_key, body_hash, answer FROM ingest_batches WHERE idempotency_key = ANY ($1::text[])
