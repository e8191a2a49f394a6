-- supersedes ba0a61205f045bd9db860abaf1c26fbaa564168340b8bbdffa97ffa2d429405f
-- (which asked for the right to create roles even where the role was there)
-- The program runs as ludoteca_app, which may append but never change or remove. Who migrates owns the tables.
DO $$
BEGIN
    IF to_regrole('ludoteca_app') IS NULL THEN
        CREATE ROLE ludoteca_app NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN RAISE EXCEPTION 'ask a database administrator to run: CREATE ROLE ludoteca_app NOLOGIN';
END $$;

DO $$
BEGIN
    IF NOT pg_has_role(current_user, 'ludoteca_app', 'SET') THEN
        EXECUTE format('GRANT ludoteca_app TO %I', current_user);
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'ask a database administrator to run: GRANT ludoteca_app TO %', quote_ident(current_user);
END $$;

CREATE SCHEMA IF NOT EXISTS log;  -- the events: append-only
CREATE SCHEMA private;            -- keys and secrets: left out of backups of the log
CREATE SCHEMA read;               -- read models: may be dropped and built again

GRANT USAGE ON SCHEMA log, private, read TO ludoteca_app;
GRANT CREATE ON SCHEMA read TO ludoteca_app;
