-- The core of endpoint-stats: raw requests, their rollups, and what keeps the two in step.
-- Any Postgres from 15 on; no extension. Instants are timestamptz, days and hours are UTC's.

CREATE TABLE endpoints (
    id          integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    service     text        NOT NULL,
    method      text        NOT NULL,
    route       text        NOT NULL,
    first_seen  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (service, method, route)
);
COMMENT ON TABLE endpoints IS 'What is ranked: service + method + route. Rows are only ever added.';
COMMENT ON COLUMN endpoints.id IS 'Number of the endpoint in every other table and in the API.';
COMMENT ON COLUMN endpoints.service IS 'Service that answers, at most 128 bytes; {other} beyond the cap on services.';
COMMENT ON COLUMN endpoints.method IS 'HTTP method in capitals; _OTHER for one that is not registered.';
COMMENT ON COLUMN endpoints.route IS 'Template of the path, such as /items/{id}, at most 512 bytes; {other} beyond the cap on endpoints.';
COMMENT ON COLUMN endpoints.first_seen IS 'When the first record of the endpoint came in.';

-- Column order packs a row into 48 bytes and its line pointer.
CREATE TABLE requests (
    timestamp        timestamptz NOT NULL,
    response_time_us bigint,
    endpoint_id      integer     NOT NULL,
    status           smallint    NOT NULL,
    trace_id         text
) PARTITION BY RANGE (timestamp);
COMMENT ON TABLE requests IS 'One row a request, in one partition a UTC day. Each batch is written sorted by endpoint.';
COMMENT ON COLUMN requests.timestamp IS 'When the request finished.';
COMMENT ON COLUMN requests.response_time_us IS 'Response time in microseconds, at most 24 hours; NULL where the source had none.';
COMMENT ON COLUMN requests.endpoint_id IS 'The endpoint. No foreign key: endpoints are never deleted, and a check a row would halve the speed of COPY.';
COMMENT ON COLUMN requests.status IS 'HTTP status, 100 to 599.';
COMMENT ON COLUMN requests.trace_id IS 'Trace the request belongs to, as the client wrote it, at most 128 bytes.';

-- BRIN, since batches arrive in order of time and are sorted by endpoint: the indexes of a day take kilobytes.
-- A day that has closed also gets a btree idx_requests_endpoint_timestamp_<day> (endpoint_id, timestamp), see the
-- partitions job.
CREATE INDEX idx_requests_timestamp ON requests USING brin (timestamp);
CREATE INDEX idx_requests_endpoint ON requests USING brin (endpoint_id int4_minmax_multi_ops);

CREATE TABLE rollup_deltas (
    bucket                 timestamptz NOT NULL,
    endpoint_id            integer     NOT NULL,
    request_count          bigint      NOT NULL,
    redirect_count         bigint      NOT NULL,
    client_error_count     bigint      NOT NULL,
    error_count            bigint      NOT NULL,
    timed_count            bigint      NOT NULL,
    total_response_time_us numeric     NOT NULL,
    min_response_time_us   bigint,
    max_response_time_us   bigint,
    latency_histogram      numeric     NOT NULL
);
COMMENT ON TABLE rollup_deltas IS 'Counts written by ingest and not yet folded into minutes and hours. Append-only: no row is ever updated.';
COMMENT ON COLUMN rollup_deltas.bucket IS 'The minute; for records older than the minutes kept, the hour.';

-- Folded rows are updated where they lie: room in the page keeps that off the indexes (HOT).
CREATE TABLE endpoint_minute_stats (
    minute                 timestamptz NOT NULL,
    endpoint_id            integer     NOT NULL,
    request_count          bigint      NOT NULL,
    redirect_count         bigint      NOT NULL,
    client_error_count     bigint      NOT NULL,
    error_count            bigint      NOT NULL,
    timed_count            bigint      NOT NULL,
    total_response_time_us numeric     NOT NULL,
    min_response_time_us   bigint,
    max_response_time_us   bigint,
    latency_histogram      numeric     NOT NULL,
    PRIMARY KEY (minute, endpoint_id)
) WITH (fillfactor = 80);
CREATE INDEX idx_endpoint_minute_stats_endpoint ON endpoint_minute_stats (endpoint_id, minute);
COMMENT ON TABLE endpoint_minute_stats IS 'Exact counts by endpoint and minute, complete from rollup_state.minutes_since on.';
COMMENT ON COLUMN endpoint_minute_stats.minute IS 'Beginning of the minute.';

-- Folded rows are updated where they lie: room in the page keeps that off the indexes (HOT).
CREATE TABLE endpoint_hourly_stats (
    hour                   timestamptz NOT NULL,
    endpoint_id            integer     NOT NULL,
    request_count          bigint      NOT NULL,
    redirect_count         bigint      NOT NULL,
    client_error_count     bigint      NOT NULL,
    error_count            bigint      NOT NULL,
    timed_count            bigint      NOT NULL,
    total_response_time_us numeric     NOT NULL,
    min_response_time_us   bigint,
    max_response_time_us   bigint,
    latency_histogram      numeric     NOT NULL,
    PRIMARY KEY (hour, endpoint_id)
) WITH (fillfactor = 80);
CREATE INDEX idx_endpoint_hourly_stats_endpoint ON endpoint_hourly_stats (endpoint_id, hour);
COMMENT ON TABLE endpoint_hourly_stats IS 'Exact counts by endpoint and hour: the long memory.';
COMMENT ON COLUMN endpoint_hourly_stats.hour IS 'Beginning of the hour.';

-- The counters mean the same in all three tables.
DO $$
DECLARE
    target text;
BEGIN
    FOREACH target IN ARRAY ARRAY['rollup_deltas', 'endpoint_minute_stats', 'endpoint_hourly_stats'] LOOP
        EXECUTE format('COMMENT ON COLUMN %I.endpoint_id IS %L', target, 'The endpoint.');
        EXECUTE format('COMMENT ON COLUMN %I.request_count IS %L', target, 'Requests.');
        EXECUTE format('COMMENT ON COLUMN %I.redirect_count IS %L', target, 'Requests answered 3xx.');
        EXECUTE format('COMMENT ON COLUMN %I.client_error_count IS %L', target, 'Requests answered 4xx.');
        EXECUTE format('COMMENT ON COLUMN %I.error_count IS %L', target, 'Requests answered 5xx.');
        EXECUTE format('COMMENT ON COLUMN %I.timed_count IS %L', target, 'Requests that came with a response time.');
        EXECUTE format('COMMENT ON COLUMN %I.total_response_time_us IS %L', target, 'Sum of the response times, microseconds.');
        EXECUTE format('COMMENT ON COLUMN %I.min_response_time_us IS %L', target, 'Shortest response time, microseconds; NULL without one.');
        EXECUTE format('COMMENT ON COLUMN %I.max_response_time_us IS %L', target, 'Longest response time, microseconds; NULL without one.');
        EXECUTE format('COMMENT ON COLUMN %I.latency_histogram IS %L', target,
            'Response times by bucket: lane i of 12 decimal digits, from the right, counts those in (2^((i-1)/8), 2^(i/8)] microseconds. SUM() merges.');
    END LOOP;
END
$$;

CREATE MATERIALIZED VIEW endpoint_daily_stats AS
SELECT
    hours.endpoint_id,
    (hours.hour AT TIME ZONE 'UTC')::date                                            AS day,
    endpoints.service,
    endpoints.method || ' ' || endpoints.route                                       AS endpoint,
    SUM(hours.request_count)::bigint                                                 AS request_count,
    (SUM(hours.total_response_time_us) / NULLIF(SUM(hours.timed_count), 0) / 1000)::double precision AS avg_response_time,
    (MIN(hours.min_response_time_us) / 1000.0)::double precision                     AS min_response_time,
    (MAX(hours.max_response_time_us) / 1000.0)::double precision                     AS max_response_time,
    SUM(hours.redirect_count)::bigint                                                AS redirect_count,
    SUM(hours.client_error_count)::bigint                                            AS client_error_count,
    SUM(hours.error_count)::bigint                                                   AS error_count,
    SUM(hours.timed_count)::bigint                                                   AS timed_count,
    SUM(hours.total_response_time_us)                                                AS total_response_time_us,
    MIN(hours.min_response_time_us)                                                  AS min_response_time_us,
    MAX(hours.max_response_time_us)                                                  AS max_response_time_us,
    SUM(hours.latency_histogram)                                                     AS latency_histogram
FROM endpoint_hourly_stats AS hours
JOIN endpoints ON endpoints.id = hours.endpoint_id
GROUP BY hours.endpoint_id, day, endpoints.service, endpoints.method, endpoints.route
WITH DATA;
-- Both columns are never NULL; REFRESH … CONCURRENTLY needs exactly such an index.
CREATE UNIQUE INDEX idx_endpoint_daily_stats_day_endpoint ON endpoint_daily_stats (day, endpoint_id);
CREATE INDEX idx_endpoint_daily_stats_endpoint ON endpoint_daily_stats (endpoint_id, day);
COMMENT ON MATERIALIZED VIEW endpoint_daily_stats IS
    'endpoint_hourly_stats by UTC day, as of the last refresh. It speaks for a day up to rollup_state.view_through that is not in stale_days.';
COMMENT ON COLUMN endpoint_daily_stats.endpoint_id IS 'The endpoint.';
COMMENT ON COLUMN endpoint_daily_stats.day IS 'UTC day.';
COMMENT ON COLUMN endpoint_daily_stats.service IS 'Service of the endpoint.';
COMMENT ON COLUMN endpoint_daily_stats.endpoint IS 'Method and route, for people.';
COMMENT ON COLUMN endpoint_daily_stats.request_count IS 'Requests.';
COMMENT ON COLUMN endpoint_daily_stats.avg_response_time IS 'Mean response time, milliseconds; NULL without response times.';
COMMENT ON COLUMN endpoint_daily_stats.min_response_time IS 'Shortest response time, milliseconds.';
COMMENT ON COLUMN endpoint_daily_stats.max_response_time IS 'Longest response time, milliseconds.';
COMMENT ON COLUMN endpoint_daily_stats.redirect_count IS 'Requests answered 3xx.';
COMMENT ON COLUMN endpoint_daily_stats.client_error_count IS 'Requests answered 4xx.';
COMMENT ON COLUMN endpoint_daily_stats.error_count IS 'Requests answered 5xx.';
COMMENT ON COLUMN endpoint_daily_stats.timed_count IS 'Requests that came with a response time.';
COMMENT ON COLUMN endpoint_daily_stats.total_response_time_us IS 'Sum of the response times, microseconds.';
COMMENT ON COLUMN endpoint_daily_stats.min_response_time_us IS 'Shortest response time, microseconds.';
COMMENT ON COLUMN endpoint_daily_stats.max_response_time_us IS 'Longest response time, microseconds.';
COMMENT ON COLUMN endpoint_daily_stats.latency_histogram IS 'Response times by bucket, see endpoint_hourly_stats.';

CREATE TABLE stale_days (
    day   date        PRIMARY KEY,
    since timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE stale_days IS 'Days whose hours changed after the daily view was last refreshed: the view does not speak for them.';
COMMENT ON COLUMN stale_days.day IS 'UTC day.';
COMMENT ON COLUMN stale_days.since IS 'When the first such change was folded.';

CREATE TABLE rollup_state (
    only_row        boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    minutes_since   timestamptz NOT NULL DEFAULT '-infinity',
    raw_since       timestamptz NOT NULL DEFAULT '-infinity',
    view_through    date        NOT NULL DEFAULT '-infinity',
    data_generation bigint      NOT NULL DEFAULT 0
);
INSERT INTO rollup_state DEFAULT VALUES;
COMMENT ON TABLE rollup_state IS 'One row: how far each rollup speaks. The instants only ever move forward, so a reader with an old copy errs on the safe side.';
COMMENT ON COLUMN rollup_state.only_row IS 'Keeps the table at one row.';
COMMENT ON COLUMN rollup_state.minutes_since IS 'A full hour. Minutes are complete from here on; before it, hours are the finest step.';
COMMENT ON COLUMN rollup_state.raw_since IS 'A UTC midnight. Raw requests are complete from here on; older records are counted, but their rows are not kept.';
COMMENT ON COLUMN rollup_state.view_through IS 'The last UTC day that the daily view has seen closed.';
COMMENT ON COLUMN rollup_state.data_generation IS 'Moves when a closed day may read differently from before: part of every cache key.';

CREATE TABLE ingest_batches (
    idempotency_key text        PRIMARY KEY,
    body_hash       bytea       NOT NULL,
    answer          text        NOT NULL,
    received_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idx_ingest_batches_received_at ON ingest_batches USING brin (received_at);
COMMENT ON TABLE ingest_batches IS 'Batches that came with an idempotency key: written in the transaction that stores their records.';
COMMENT ON COLUMN ingest_batches.idempotency_key IS 'The key, as the client wrote it; import derives its own from the file.';
COMMENT ON COLUMN ingest_batches.body_hash IS 'SHA-256 of the body after decompression: tells a retry from another body under the same key.';
COMMENT ON COLUMN ingest_batches.answer IS 'The answer given, byte by byte, to be given again.';
COMMENT ON COLUMN ingest_batches.received_at IS 'When the batch was stored.';

CREATE TABLE job_runs (
    job         text        NOT NULL,
    slot        timestamptz NOT NULL,
    outcome     text        NOT NULL,
    rows        bigint,
    duration_ms bigint,
    error       text,
    PRIMARY KEY (job, slot)
);
COMMENT ON TABLE job_runs IS 'Scheduled maintenance: one row a job and slot.';
COMMENT ON COLUMN job_runs.job IS 'Name of the job.';
COMMENT ON COLUMN job_runs.slot IS 'The instant the run was due.';
COMMENT ON COLUMN job_runs.outcome IS 'How it ended.';
COMMENT ON COLUMN job_runs.rows IS 'Rows it moved, wrote or deleted.';
COMMENT ON COLUMN job_runs.duration_ms IS 'How long it took, milliseconds.';
COMMENT ON COLUMN job_runs.error IS 'Why it failed, for the operator.';

CREATE TABLE api_keys (
    name       text        PRIMARY KEY,
    prefix     text        NOT NULL UNIQUE,
    hash       bytea       NOT NULL,
    scope      text        NOT NULL CHECK (scope IN ('ingest', 'read', 'admin')),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
COMMENT ON TABLE api_keys IS 'Who may do what.';
COMMENT ON COLUMN api_keys.name IS 'Name given by the person who made the key.';
COMMENT ON COLUMN api_keys.prefix IS 'Public beginning of the key, by which it is looked up.';
COMMENT ON COLUMN api_keys.hash IS 'SHA-256 of the key; the key itself is kept nowhere.';
COMMENT ON COLUMN api_keys.scope IS 'ingest, read or admin.';
COMMENT ON COLUMN api_keys.created_at IS 'When it was made.';
COMMENT ON COLUMN api_keys.revoked_at IS 'When it was revoked; NULL while it holds.';

-- Makes the partition of one UTC day, if there is none. The day is made as a plain table and then attached: attaching
-- does not block a running COPY, creating in place does. Returns whether it was made.
CREATE FUNCTION ensure_requests_day(wanted date) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    partition_name text := 'requests_' || to_char(wanted, 'YYYYMMDD');
    day_start timestamptz := wanted::timestamp AT TIME ZONE 'UTC';
BEGIN
    -- One at a time: two replicas that meet a new day at once would both find it missing.
    PERFORM pg_advisory_xact_lock(hashtext('endpoint_stats'), hashtext('ensure_requests_day'));
    IF EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'requests'::regclass AND inhrelid = to_regclass(partition_name)) THEN
        RETURN false;
    END IF;
    -- What is left of a try that died between CREATE and ATTACH cannot exist: both are in this transaction.
    EXECUTE format('CREATE TABLE %I (LIKE requests INCLUDING DEFAULTS INCLUDING COMMENTS)', partition_name);
    EXECUTE format('ALTER TABLE requests ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        partition_name, day_start, day_start + interval '1 day');
    RETURN true;
END
$$;
COMMENT ON FUNCTION ensure_requests_day(date) IS 'Makes the partition of requests for one UTC day, if there is none; true if it did.';
