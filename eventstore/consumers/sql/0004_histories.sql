-- A checkpoint says which event is at its position: so it is known for one of another history of the log (log.epochs).
ALTER TABLE consumers.checkpoints ADD COLUMN event_id uuid;
UPDATE consumers.checkpoints c SET event_id = e.event_id FROM log.events e WHERE e.position = c.position;

-- In which epoch it was seen last that what a feed has written is of the log's history.
ALTER TABLE consumers.feeds ADD COLUMN epoch text;

-- Where a consumer that acts was, now and then, and how far the log went at that moment: all that it had done about events
-- up to `position` was in the log up to `head`. When the log goes back alone, it goes on from the last place of which that
-- is still so: it repeats some, and misses nothing.
CREATE TABLE consumers.trail (
    feed     text NOT NULL REFERENCES consumers.feeds ON DELETE CASCADE,
    position bigint NOT NULL,
    head     bigint NOT NULL,
    event_id uuid,            -- of the event at `head`; null for an empty log
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (feed, at)
);
GRANT SELECT, INSERT, DELETE ON consumers.trail TO ludoteca_app;
