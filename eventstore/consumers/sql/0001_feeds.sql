-- A feed is a consumer of the log with its checkpoint: a read model's table, a search index, a reactor, the relay.
-- Of the feeds of one projection and version one is active: the one that queries read.
CREATE TABLE read.feeds (
    feed       text PRIMARY KEY,
    projection text NOT NULL,
    version    int NOT NULL,
    storage    text NOT NULL DEFAULT '',
    position   bigint NOT NULL DEFAULT 0,
    active     boolean NOT NULL DEFAULT false,
    paused     boolean NOT NULL DEFAULT false,
    building   boolean NOT NULL DEFAULT false,  -- a rebuild owns it; the projector leaves it alone
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);  -- updated with every batch: room for it in place
CREATE UNIQUE INDEX one_active_feed ON read.feeds (projection, version) WHERE active;

-- A stream that a feed could not apply from `position` on; the rest goes on without it.
CREATE TABLE read.quarantine (
    id        uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    feed      text NOT NULL,
    stream_id uuid NOT NULL,
    position  bigint NOT NULL,
    name      text NOT NULL,
    error     text NOT NULL,
    since     timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts  int NOT NULL DEFAULT 1,
    retry     boolean NOT NULL DEFAULT false,   -- an operator asked for another try
    UNIQUE (feed, stream_id)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON read.feeds, read.quarantine TO ludoteca_app;
