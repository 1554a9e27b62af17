-- name: make the room of deleted hours usable again
-- Does not give the end of the file back: that takes a lock that keeps everybody out, on read replicas too, for as long as the
-- file system needs. New rows fill the room. Where autovacuum is at it, there is nothing to do.
VACUUM (TRUNCATE OFF, SKIP_LOCKED) endpoint_hourly_stats
