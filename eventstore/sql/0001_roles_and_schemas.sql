-- The program runs as ludoteca_app, which may append but never change or remove. Who migrates owns the tables.
DO $$
BEGIN
    CREATE ROLE ludoteca_app NOLOGIN;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN RAISE EXCEPTION 'ask a database administrator to run: CREATE ROLE ludoteca_app NOLOGIN';
END $$;

DO $$
BEGIN
    IF NOT pg_has_role(current_user, 'ludoteca_app', 'SET') THEN
        EXECUTE format('GRANT ludoteca_app TO %I', current_user);
    END IF;
END $$;

CREATE SCHEMA log;      -- the events: append-only
CREATE SCHEMA private;  -- keys and secrets: left out of backups of the log
CREATE SCHEMA read;     -- read models: may be dropped and built again

GRANT USAGE ON SCHEMA log, private, read TO ludoteca_app;
GRANT CREATE ON SCHEMA read TO ludoteca_app;
