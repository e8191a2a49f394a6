-- supersedes 09cccb75c16deb9fb7a20510abfce50d6f5de795d18691ebe36d2c51a22e3a7f
-- When an event was decided, by the clock of the process that decided it. `recorded_at` is the log's own time: it never
-- runs backwards, so it stays ahead for as long as the database's clock was ahead once; it says the order, and nothing is
-- decided by it. Rows of the release before have no occurred_at: they occurred when they were recorded.
ALTER TABLE log.events ADD COLUMN occurred_at timestamptz;

-- Those that occurred while recorded_at was ahead: none, unless a clock was wrong. By it they are found by their time.
CREATE INDEX events_behind ON log.events (occurred_at) WHERE recorded_at - occurred_at > interval '1 minute';

CREATE TYPE log.new_event_v4 AS (
    event_id       uuid,
    stream_id      uuid,
    version        bigint,
    name           text,
    payload        bytea,
    actor          text,
    correlation_id uuid,
    causation_id   uuid,
    traceparent    text,
    occurred_at    timestamptz
);
