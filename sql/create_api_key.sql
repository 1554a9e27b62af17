-- name: write down a new API key
-- $1 name, $2 prefix, $3 hash, $4 scope. Returns the name; nothing if the name or the prefix is taken, by a revoked key too.
INSERT INTO api_keys (name, prefix, hash, scope)
VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING
RETURNING name
