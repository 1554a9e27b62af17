-- name: whether Postgres answers
SELECT 1
