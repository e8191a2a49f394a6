-- The last look at each invariant of the shop's audit of itself: at a sample, and at everything. What it found are
-- events (audit.finding_opened.v1). `after` and `upto` are the positions that were looked at at the log's end `head`.
CREATE TABLE consumers.self_audit (
    invariant  text NOT NULL,
    scope      text NOT NULL CHECK (scope IN ('sample', 'whole')),
    meaning    text NOT NULL,
    looked_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    seconds    double precision NOT NULL,
    head       bigint NOT NULL,
    after      bigint NOT NULL,
    upto       bigint NOT NULL,
    settled    bigint NOT NULL,
    checked    bigint NOT NULL,
    violations bigint NOT NULL,
    unsettled  bigint NOT NULL,
    failure    text NOT NULL,
    PRIMARY KEY (invariant, scope)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON consumers.self_audit TO ludoteca_app;
