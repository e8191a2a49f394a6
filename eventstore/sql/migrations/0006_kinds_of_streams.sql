-- supersedes 86d463d5cdcf6a95c5a0eb0170748f8ed46d95b413ce4841e951ed508cfb6848
-- A stream has one kind, for ever: that of its events. Which event is of which kind is told by the programs that write
-- them, when they connect; a name that is not here is of a program that is older than this table, and is let pass.
CREATE TABLE log.event_kinds (
    name text PRIMARY KEY,
    kind text NOT NULL
);
GRANT SELECT, INSERT ON log.event_kinds TO ludoteca_app;
