-- The server's own account of its history: a new timeline begins whenever a server is promoted or recovered to a moment.
CREATE OR REPLACE FUNCTION log.server() RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT system_identifier::text FROM pg_control_system()) || '/'
        || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8);
EXCEPTION WHEN OTHERS THEN
    RETURN '';
END $$;

REVOKE ALL ON FUNCTION log.server FROM PUBLIC;
