-- The account's session epoch when the session was opened: one of an earlier epoch is over (domain/identity.py).
ALTER TABLE private.sessions ADD COLUMN epoch int NOT NULL DEFAULT 0;
