-- name: write down the idempotency keys of a flush
-- $1 keys, $2 hashes of the bodies, $3 answers. Returns the keys that are new. A key that another flush is just writing is
-- waited for; keys are taken in order, so that two flushes cannot wait for each other.
INSERT INTO ingest_batches (idempotency_key, body_hash, answer)
SELECT key, hash, answer
FROM unnest($1::text[], $2::bytea[], $3::text[]) AS claimed (key, hash, answer)
ORDER BY key
ON CONFLICT (idempotency_key) DO NOTHING
RETURNING idempotency_key
