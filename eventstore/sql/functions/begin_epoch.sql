-- Begin an epoch, unless one later than `after` exists. Returns the latest. No append runs meanwhile.
CREATE OR REPLACE FUNCTION log.begin_epoch(after int, reason text) RETURNS log.epochs LANGUAGE plpgsql SECURITY DEFINER
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

REVOKE ALL ON FUNCTION log.begin_epoch FROM PUBLIC;
GRANT EXECUTE ON FUNCTION log.begin_epoch TO ludoteca_app;
