-- Rollups of :days days before :'until' (and the hour it is in): an hour of an endpoint has 7,200 requests, a minute 120, so
-- that 500 endpoints come to 1,000 requests a second. What is there already is left: called again, it goes further back.
-- Minutes are those of the last 48 hours.
\set ON_ERROR_STOP on
SET synchronous_commit = off;

-- The histogram of so many neighbouring buckets, some `per_bucket` requests each, around one that differs by endpoint.
CREATE OR REPLACE FUNCTION made_up(endpoint integer, variant integer, spread integer, per_bucket integer) RETURNS numeric
LANGUAGE sql IMMUTABLE AS $$
    SELECT SUM((per_bucket * (1 + (endpoint * 31 + variant * 17 + bucket * 7) % 9) / 5)
        * ('1' || repeat('0', 12 * (80 + endpoint % 40 + bucket)))::numeric)
    FROM generate_series(0, spread - 1) AS bucket
$$;

WITH variants AS MATERIALIZED (
    SELECT id, variant, made_up(id, variant, 24, 300) AS histogram
    FROM endpoints, generate_series(0, 23) AS variant
),
hours AS (
    SELECT hour
    FROM generate_series(date_trunc('hour', :'until'::timestamptz) - :days * interval '1 day', :'until'::timestamptz, '1 hour') AS hour
    WHERE hour < (SELECT COALESCE(MIN(present.hour), 'infinity') FROM endpoint_hourly_stats AS present)
)
INSERT INTO endpoint_hourly_stats
SELECT hour, id, 7200, 216, 360, 144, 7200, 7200::numeric * (2000 + id * 80), 1000 + id, 900000 + id, histogram
FROM hours
JOIN variants ON variant = EXTRACT(hour FROM hour AT TIME ZONE 'UTC');

WITH variants AS MATERIALIZED (
    SELECT id, variant, made_up(id, variant, 16, 8) AS histogram
    FROM endpoints, generate_series(0, 9) AS variant
),
minutes AS (
    SELECT minute
    FROM generate_series(date_trunc('hour', :'until'::timestamptz) - interval '48 hours', :'until'::timestamptz, '1 minute') AS minute
    WHERE NOT EXISTS (SELECT FROM endpoint_minute_stats)
)
INSERT INTO endpoint_minute_stats
SELECT minute, id, 120, 4, 6, 2, 120, 120::numeric * (2000 + id * 80), 1000 + id, 900000 + id, histogram
FROM minutes
JOIN variants ON variant = EXTRACT(minute FROM minute)::integer % 10;

UPDATE rollup_state SET minutes_since = GREATEST(minutes_since, date_trunc('hour', :'until'::timestamptz) - interval '48 hours');
