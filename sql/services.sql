-- name: every service
SELECT DISTINCT service FROM endpoints
