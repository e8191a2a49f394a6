-- A person's key: whoever destroys it forgets the person, in every copy of the log.
CREATE TABLE private.person_keys (
    person_id  uuid PRIMARY KEY,
    key        bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The program's own secrets: the pepper of the e-mail digest (never rotated), signing keys, webhook secrets.
CREATE TABLE private.secrets (
    name       text PRIMARY KEY,
    value      bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

GRANT SELECT, INSERT, DELETE ON private.person_keys TO ludoteca_app;
GRANT SELECT, INSERT ON private.secrets TO ludoteca_app;
