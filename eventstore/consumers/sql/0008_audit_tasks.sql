-- Long work that an auditor asked for over HTTP (queries/audit_tasks.py): what it is, how far it is, and what came of
-- it. One is under way at a time: the process that does it holds the lock `audit task`. Without the lock, a row without
-- `ended_at` is of a process that died.
CREATE TABLE consumers.audit_tasks (
    id          uuid PRIMARY KEY,
    asked       text NOT NULL,
    asked_by    text NOT NULL,
    begun_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    stage       text NOT NULL DEFAULT '',
    stage_since timestamptz NOT NULL DEFAULT clock_timestamp(),
    noted_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    done        bigint NOT NULL DEFAULT 0,
    total       bigint NOT NULL DEFAULT 0,
    ended_at    timestamptz,
    error       text NOT NULL DEFAULT '',
    result      text
);
GRANT SELECT, INSERT, UPDATE, DELETE ON consumers.audit_tasks TO ludoteca_app;
