-- A log that mirrors another one (log.mirror) takes events from its mirror alone: a process that was started before, or is of
-- an earlier release, would append beside it, and two histories would begin. For such a process the database is read-only.
-- Enabled by log.mirror_v1 when a mirror begins: a log without a mirror pays nothing for it.
CREATE FUNCTION log.refuse_unmirrored() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('ludoteca.mirrors', true) IS DISTINCT FROM 'on' THEN
        RAISE EXCEPTION 'log.events mirrors another log, and takes events from its mirror only'
            USING ERRCODE = 'read_only_sql_transaction';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER only_the_mirror BEFORE INSERT ON log.events
    FOR EACH STATEMENT EXECUTE FUNCTION log.refuse_unmirrored();
ALTER TABLE log.events DISABLE TRIGGER only_the_mirror;
DO $$ BEGIN
    IF EXISTS (SELECT FROM log.mirror) THEN
        ALTER TABLE log.events ENABLE ALWAYS TRIGGER only_the_mirror;
    END IF;
END $$;
