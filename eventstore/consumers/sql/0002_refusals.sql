-- What reactors were refused by a rule: an outcome, not a failure, and nothing of it is tried again.
CREATE TABLE read.refusals (
    feed      text NOT NULL,
    event_id  uuid NOT NULL,   -- what was reacted to
    position  bigint NOT NULL,
    stream_id uuid NOT NULL,
    code      text NOT NULL,
    detail    text NOT NULL,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (feed, event_id)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON read.refusals TO ludoteca_app;
