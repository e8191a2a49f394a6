-- The functions of the log have their current text in sql/functions, a file each. Which texts are installed, stands here.
CREATE TABLE log.functions (
    name         text PRIMARY KEY,
    sha256       text NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT ON log.functions TO ludoteca_app;

-- Of two releases ago: nobody who may still run calls it.
DROP FUNCTION IF EXISTS log.append;
