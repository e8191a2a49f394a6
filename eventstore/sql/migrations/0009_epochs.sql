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

-- Which history a server is in by its own account: a new timeline begins whenever one is promoted or recovered to a moment.
CREATE FUNCTION log.server() RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT system_identifier::text FROM pg_control_system()) || '/'
        || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8);
EXCEPTION WHEN OTHERS THEN
    RETURN '';
END $$;

-- Begin an epoch, unless one later than `after` was begun already; returns the latest. No append is under way meanwhile.
CREATE FUNCTION log.begin_epoch(after int, reason text) RETURNS log.epochs LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    latest log.epochs;
BEGIN
    PERFORM pg_advisory_xact_lock(4910, 1);
    SELECT e.* INTO latest FROM log.epochs e ORDER BY e.number DESC LIMIT 1;
    IF latest.number IS NULL OR latest.number <= after THEN
        INSERT INTO log.epochs (number, position, hash, server, reason)
        SELECT after + 1, coalesce(max(e.position), 0),
               coalesce((SELECT l.hash FROM log.events l ORDER BY l.position DESC LIMIT 1), decode(repeat('00', 32), 'hex')),
               log.server(), begin_epoch.reason
        FROM log.events e
        RETURNING * INTO latest;
    END IF;
    RETURN latest;
END $$;

-- What a connection asks first: the latest epoch, begun now if the server is in another history than when that began; where
-- the log ends; and which event is at a position that the asker remembers.
CREATE FUNCTION log.look(
    at bigint,
    OUT epoch int, OUT epoch_id text, OUT epoch_position bigint, OUT head bigint, OUT last uuid, OUT there uuid
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    latest log.epochs;
    here   text := log.server();
BEGIN
    SELECT e.* INTO latest FROM log.epochs e ORDER BY e.number DESC LIMIT 1;
    IF latest.number IS NULL THEN
        latest := log.begin_epoch(0, 'the first');
    ELSIF here <> '' AND latest.server <> '' AND here <> latest.server THEN
        latest := log.begin_epoch(latest.number, 'the server is ' || here || ', and was ' || latest.server);
    END IF;
    epoch := latest.number;
    epoch_id := latest.id;
    epoch_position := latest.position;
    SELECT e.position, e.event_id INTO head, last FROM log.events e ORDER BY e.position DESC LIMIT 1;
    head := coalesce(head, 0);
    SELECT e.event_id INTO there FROM log.events e WHERE e.position = at;
END $$;

REVOKE ALL ON FUNCTION log.server, log.begin_epoch, log.look FROM PUBLIC;
GRANT EXECUTE ON FUNCTION log.begin_epoch, log.look TO ludoteca_app;

SELECT log.begin_epoch(0, 'the first');
