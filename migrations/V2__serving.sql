-- What serving from several places needs: to tell one installation's answers from another's in a Redis they share, and to
-- know how far a read replica is.

ALTER TABLE rollup_state ADD COLUMN installation uuid NOT NULL DEFAULT gen_random_uuid();
COMMENT ON COLUMN rollup_state.installation IS 'Names this database: part of every key in Redis, which other databases may share.';

-- A table of its own: the row of rollup_state is locked for as long as a fold or a refresh takes.
CREATE TABLE replication_beat (
    only_row boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    beat_at  timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO replication_beat DEFAULT VALUES;
COMMENT ON TABLE replication_beat IS 'One row, written every second on the primary where a read replica is used: a replica that shows an instant has everything that was committed before it.';
COMMENT ON COLUMN replication_beat.only_row IS 'Keeps the table at one row.';
COMMENT ON COLUMN replication_beat.beat_at IS 'The instant of the last beat.';
