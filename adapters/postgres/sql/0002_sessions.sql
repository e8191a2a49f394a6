-- Logins and their refresh tokens: each refresh spends one generation.
CREATE TABLE private.sessions (
    session_id uuid PRIMARY KEY,
    user_id    uuid NOT NULL,
    generation int NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked    boolean NOT NULL DEFAULT false
);
CREATE INDEX sessions_of_user ON private.sessions (user_id);
GRANT SELECT, INSERT, UPDATE, DELETE ON private.sessions TO ludoteca_app;
