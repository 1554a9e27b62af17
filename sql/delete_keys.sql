-- name: delete some of the idempotency keys that have expired
-- $1: those received before; $2: beginnings of keys that never expire; $3: at most this many. Returns how many.
WITH expired AS (
    SELECT ctid
    FROM ingest_batches
    WHERE received_at < $1 AND NOT (idempotency_key ^@ ANY ($2::text[]))
    LIMIT $3
    FOR UPDATE SKIP LOCKED
),
deleted AS (
    DELETE FROM ingest_batches WHERE ctid = ANY (ARRAY(SELECT ctid FROM expired))
    RETURNING 1
)
SELECT COUNT(*) FROM deleted
