-- supersedes 652ef6c4c84c3be589fb9f96ebfa35b932d8da01cafb74170f20a212b1a894c4
-- A log may go back: a server is restored to an earlier moment, or an asynchronous standby takes over without the last
-- events. What others remember of the events that are gone (a position, a state, an index) belongs to another history.
-- An epoch is what was appended without such a break. `position` and `hash` are those of the log's last event when it
-- began: of what was appended in the epoch before, only what is not beyond it is still there.
CREATE TABLE log.epochs (
    number   int PRIMARY KEY,
    id       text NOT NULL DEFAULT substr(gen_random_uuid()::text, 1, 8),  -- lost epochs may have had the same number
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    position bigint NOT NULL,
    hash     bytea NOT NULL,
    server   text NOT NULL,   -- system identifier and timeline of the server; '' where it does not tell
    reason   text NOT NULL
);
GRANT SELECT ON log.epochs TO ludoteca_app;
