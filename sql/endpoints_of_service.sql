-- name: every endpoint of a service
-- $1: the service.
SELECT id, service, method, route FROM endpoints WHERE service = $1
