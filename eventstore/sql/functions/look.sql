-- A connection's first query: the latest epoch, begun now if the server is in another history than when that one began; where
-- the log ends; and which event is at the position that the caller remembers.
CREATE OR REPLACE FUNCTION log.look(
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

REVOKE ALL ON FUNCTION log.look FROM PUBLIC;
GRANT EXECUTE ON FUNCTION log.look TO ludoteca_app;
