-- name: the API keys that hold
-- Revoked ones are left out: nobody who only has this answer can tell them from keys that never were.
SELECT name, prefix, hash, scope FROM api_keys WHERE revoked_at IS NULL
