-- Work queues. A row is a job from its publishing until it is done (then it is deleted) or dead (then died_at is set).
CREATE SCHEMA queue;

CREATE TABLE queue.jobs (
    queue    text NOT NULL,
    id       uuid NOT NULL,
    kind     text NOT NULL,
    body     jsonb NOT NULL,
    seq      bigint GENERATED ALWAYS AS IDENTITY,          -- order of publishing
    attempts int NOT NULL DEFAULT 0,                       -- attempts begun; also tells one claim of a job from the next
    due_at   timestamptz NOT NULL DEFAULT now(),           -- when it may be claimed; while it is held, the end of the lease
    held_by  uuid,                                         -- the consumer that works on it
    error    text,                                         -- of the last attempt that failed
    died_at  timestamptz,
    PRIMARY KEY (queue, id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);  -- rows live for seconds

CREATE INDEX jobs_due ON queue.jobs (queue, due_at, seq) WHERE died_at IS NULL;
CREATE INDEX jobs_dead ON queue.jobs (queue, died_at, seq) WHERE died_at IS NOT NULL;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'ludoteca_app') THEN
        GRANT USAGE ON SCHEMA queue TO ludoteca_app;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA queue TO ludoteca_app;
    END IF;
END $$;
