-- A log may mirror another one, KurrentDB's, which is then the log of record: docs/kurrentdb.md. One row says how far it is.
-- `commit_position` is the other log's place of our event at `position`. While `position` is before the log's end, events that
-- are here already are compared. `halted` says why the mirror stands still, null while it does not.
CREATE TABLE log.mirror (
    only_one        boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    commit_position bigint NOT NULL,
    position        bigint NOT NULL,
    halted          text
);
GRANT SELECT ON log.mirror TO ludoteca_app;
