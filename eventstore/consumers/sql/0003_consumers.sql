-- What consumers of the log have done belongs to what is backed up: a reactor or relay that lost its checkpoint would ask
-- and publish everything again. `read` keeps nothing but rows that can be folded anew.
CREATE SCHEMA consumers;
GRANT USAGE ON SCHEMA consumers TO ludoteca_app;

ALTER TABLE read.feeds SET SCHEMA consumers;
ALTER TABLE read.quarantine SET SCHEMA consumers;
ALTER TABLE read.refusals SET SCHEMA consumers;

-- Written with every batch; the feeds themselves hardly ever. Narrow, so that a long snapshot, which keeps its old rows
-- from being removed, does not slow the looks at it.
CREATE TABLE consumers.checkpoints (
    feed       text PRIMARY KEY REFERENCES consumers.feeds ON DELETE CASCADE,
    position   bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);  -- room for new versions in place
INSERT INTO consumers.checkpoints (feed, position, updated_at) SELECT feed, position, updated_at FROM consumers.feeds;
ALTER TABLE consumers.feeds DROP COLUMN position, DROP COLUMN updated_at;

GRANT SELECT, INSERT, UPDATE, DELETE ON consumers.checkpoints TO ludoteca_app;

-- API processes of the release before go on reading them here, until they are stopped; nobody moves a checkpoint here.
CREATE VIEW read.feeds AS
    SELECT feed, projection, version, storage, position, active, paused, building, updated_at
    FROM consumers.feeds JOIN consumers.checkpoints USING (feed);
CREATE VIEW read.quarantine AS SELECT * FROM consumers.quarantine;
CREATE VIEW read.refusals AS SELECT * FROM consumers.refusals;
GRANT SELECT ON read.feeds, read.quarantine, read.refusals TO ludoteca_app;
