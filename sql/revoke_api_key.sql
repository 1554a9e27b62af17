-- name: revoke an API key
-- $1 its name or its prefix. Returns its name; nothing if there is none. One that was revoked before keeps its instant. A name
-- may look like another key's prefix: then the name is meant.
UPDATE api_keys
SET revoked_at = COALESCE(revoked_at, now())
WHERE name = $1 OR (prefix = $1 AND NOT EXISTS (SELECT FROM api_keys AS named WHERE named.name = $1))
RETURNING name
