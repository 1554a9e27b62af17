-- What scheduled maintenance needs: who runs a slot and how often it was begun, from when on hours are kept, and vacuuming
-- that keeps pace with the churn of the deltas.

ALTER TABLE job_runs
    ADD COLUMN attempts   integer     NOT NULL DEFAULT 1,
    ADD COLUMN started_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN by_hand    boolean     NOT NULL DEFAULT false,
    ADD COLUMN retry_at   timestamptz,
    ADD COLUMN runner     text        NOT NULL DEFAULT '',
    ADD CONSTRAINT job_runs_outcome CHECK (outcome IN ('new', 'running', 'interrupted', 'succeeded', 'failed'));
COMMENT ON COLUMN job_runs.outcome IS
    'new: the job was not known before and waits for its next slot; running; interrupted: told to stop, another goes on; succeeded; failed.';
COMMENT ON COLUMN job_runs.attempts IS 'How often the run was begun: more than once where it was interrupted, its process died, or it failed. Whoever writes here must still have the last.';
COMMENT ON COLUMN job_runs.started_at IS 'When it was begun, the last time.';
COMMENT ON COLUMN job_runs.by_hand IS 'Asked for by a person: the slot is the instant it was asked for.';
COMMENT ON COLUMN job_runs.retry_at IS 'From when on a failed run is tried again, unless the next slot comes first; NULL: it is not.';
COMMENT ON COLUMN job_runs.runner IS 'Host and process that began it last.';

-- What nobody finished is finished first: looked for at every slot.
CREATE INDEX idx_job_runs_unfinished ON job_runs (job, slot) WHERE outcome IN ('running', 'interrupted');

-- All its rows are new every few seconds, so a share of them says nothing: vacuumed whenever autovacuum looks, at full
-- speed, since it is small.
ALTER TABLE rollup_deltas SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000
);
-- Rows of the last minutes and hours are updated every few seconds, and of the minutes a whole day goes at once.
ALTER TABLE endpoint_minute_stats SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE endpoint_hourly_stats SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- Last, since every question reads it: it is kept from them for a moment only.
ALTER TABLE rollup_state ADD COLUMN hours_since timestamptz NOT NULL DEFAULT '-infinity';
ALTER TABLE rollup_state ADD COLUMN is_served boolean NOT NULL DEFAULT false;
UPDATE rollup_state SET is_served = true
WHERE minutes_since > '-infinity' OR raw_since > '-infinity' OR EXISTS (SELECT FROM endpoints);
COMMENT ON COLUMN rollup_state.is_served IS 'Whether a service has said how long data is kept, be it for ever: no command does so any more.';
COMMENT ON COLUMN rollup_state.hours_since IS 'A UTC midnight. Hours and days are kept from here on; what is older is no longer told.';
