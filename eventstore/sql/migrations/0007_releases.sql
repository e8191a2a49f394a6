-- Releases of the program that have used this database: the highest is the one that may lead (eventstore/release.py).
CREATE TABLE log.releases (
    number   int PRIMARY KEY,
    began_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT ON log.releases TO ludoteca_app;

-- Migrations tell which release's database it is.
GRANT SELECT ON log.migrations TO ludoteca_app;
