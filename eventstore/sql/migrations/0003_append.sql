-- supersedes a437f765241f61d65306c654542774f8f7f1a458dab53e19a778dfe51ddbf924
-- What the functions that append take (sql/functions).
CREATE TYPE log.new_event AS (
    event_id       uuid,
    stream_id      uuid,
    version        bigint,
    name           text,
    payload        bytea,
    actor          text,
    correlation_id uuid,
    causation_id   uuid,
    traceparent    text
);

CREATE TYPE log.new_once AS (
    key         uuid,
    fingerprint bytea,
    refs        text,
    expires_at  timestamptz,
    last_event  bigint  -- which of the batch's events, from 1, is the last of its append
);
