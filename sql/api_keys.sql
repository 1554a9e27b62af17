-- name: every API key there is or was, the oldest first
SELECT name, prefix, scope, created_at, revoked_at FROM api_keys ORDER BY created_at, name
