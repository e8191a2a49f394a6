-- Note why the mirror stands still (log.mirror), until it goes on.
CREATE OR REPLACE FUNCTION log.halt_mirror(reason text) RETURNS void LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    UPDATE log.mirror SET halted = reason WHERE halted IS DISTINCT FROM reason;
$$;

REVOKE ALL ON FUNCTION log.halt_mirror FROM PUBLIC;
GRANT EXECUTE ON FUNCTION log.halt_mirror TO ludoteca_app;
