-- supersedes d95f365618f43f9b31b2fb07a4333b9eea1ce4069da2500c1d8e5eecd4779bab
-- (which dropped log.append; it is among the functions)
-- The functions of the log have their current text in sql/functions, a file each. Which texts are installed, stands here.
CREATE TABLE log.functions (
    name         text PRIMARY KEY,
    sha256       text NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT ON log.functions TO ludoteca_app;
