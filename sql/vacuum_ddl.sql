-- name: the statements that vacuum and analyze a table
-- $1: the table, as tables_to_vacuum and tables_changed write it. A table that somebody works on is passed by: most likely
-- it is being vacuumed. The end of the file is not cut off, since that locks out readers, on replicas too; the room is
-- used again.
SELECT
    format('VACUUM (ANALYZE, SKIP_LOCKED, TRUNCATE FALSE) %s', $1::text) AS vacuum,
    format('ANALYZE (SKIP_LOCKED) %s', $1::text) AS analyze
