-- name: the newest migration that the schema has
SELECT MAX(version)::bigint FROM refinery_schema_history
