-- One row per event. Positions are contiguous from 1 and their order is commit order (see 0003_append.sql).
CREATE TABLE log.events (
    position       bigint PRIMARY KEY,
    event_id       uuid NOT NULL,
    stream_id      uuid NOT NULL,
    version        bigint NOT NULL,
    name           text NOT NULL,
    payload        bytea NOT NULL,
    actor          text NOT NULL,
    correlation_id uuid,
    causation_id   uuid,
    traceparent    text,
    recorded_at    timestamptz NOT NULL,
    hash           bytea NOT NULL,
    UNIQUE (stream_id, version)
);
ALTER TABLE log.events ALTER COLUMN payload SET STORAGE EXTERNAL;  -- small and often read: not worth compressing

-- What was done under a key, committed with its events; expires_at null is kept for ever.
CREATE TABLE log.once (
    key         uuid PRIMARY KEY,
    fingerprint bytea NOT NULL,
    refs        text NOT NULL,
    position    bigint NOT NULL,
    expires_at  timestamptz,
    answer      bytea
);
CREATE INDEX once_expiring ON log.once (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE log.snapshots (
    stream_id uuid NOT NULL,
    schema    text NOT NULL,
    version   bigint NOT NULL,
    state     bytea NOT NULL,
    PRIMARY KEY (stream_id, schema)
);

CREATE FUNCTION log.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'log.events is append-only: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON log.events
    FOR EACH STATEMENT EXECUTE FUNCTION log.refuse_change();
ALTER TABLE log.events ENABLE ALWAYS TRIGGER append_only;

GRANT SELECT ON log.events, log.once, log.snapshots TO ludoteca_app;
GRANT UPDATE (answer), DELETE ON log.once TO ludoteca_app;
GRANT INSERT, UPDATE, DELETE ON log.snapshots TO ludoteca_app;
