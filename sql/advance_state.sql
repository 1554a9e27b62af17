-- name: say from when on minutes, raw requests and hours are kept, and read back what holds
-- $1: a full hour, $2, $3: UTC midnights; NULL for no limit. $4: whether it is a service that says so. Never moves back: what is
-- gone stays gone. NULL comes back where everything is kept. Writes only where something moves, so that calling it often leaves no
-- dead rows. The installation is told together with the number of the database, so that a copy on the same server is another one.
WITH moved AS (
    UPDATE rollup_state
    SET minutes_since = GREATEST(minutes_since, $1::timestamptz),
        raw_since = GREATEST(raw_since, $2::timestamptz),
        hours_since = GREATEST(hours_since, $3::timestamptz),
        is_served = is_served OR $4
    WHERE minutes_since < $1 OR raw_since < $2 OR hours_since < $3 OR ($4 AND NOT is_served)
    RETURNING minutes_since, raw_since, hours_since, is_served, data_generation, installation
),
held AS (
    SELECT minutes_since, raw_since, hours_since, is_served, data_generation, installation FROM moved
    UNION ALL
    SELECT minutes_since, raw_since, hours_since, is_served, data_generation, installation FROM rollup_state
    WHERE NOT EXISTS (SELECT FROM moved)
)
SELECT
    NULLIF(minutes_since, '-infinity') AS minutes_since, NULLIF(raw_since, '-infinity') AS raw_since,
    NULLIF(hours_since, '-infinity') AS hours_since,
    is_served, data_generation, clock_timestamp() AS database_time,
    left(md5(installation::text || (SELECT oid FROM pg_database WHERE datname = current_database())), 12) AS installation
FROM held
