-- Up to which declaration of how an event is to be read (a position of the log) a consumer has taken them into account:
-- its rows are the fold of the events up to its checkpoint, read by the declarations up to here.
ALTER TABLE consumers.feeds ADD COLUMN amended bigint NOT NULL DEFAULT 0;
