-- The master keys that wrap what the schema `private` stores of keys and secrets; they themselves are elsewhere. The
-- current one wraps what is new; without any, keys are stored as they are (eventstore/rewrapping.py). (IF NOT EXISTS: a
-- log restored from a backup of an older release, without its keys, is migrated beside a new schema `private`.)
CREATE TABLE IF NOT EXISTS private.master_keys (
    key_id     bytea PRIMARY KEY,
    is_current boolean NOT NULL,
    began_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX IF NOT EXISTS master_keys_current ON private.master_keys (is_current) WHERE is_current;
GRANT SELECT ON private.master_keys TO ludoteca_app;

-- The planner's statistics would have copies of keys. To set the type, even the same, drops those that there are.
ALTER TABLE private.person_keys ALTER COLUMN key TYPE bytea, ALTER COLUMN key SET STATISTICS 0;
ALTER TABLE private.secrets ALTER COLUMN value TYPE bytea, ALTER COLUMN value SET STATISTICS 0;

-- Forgotten persons of whom the disk still has traces: dead rows, write-ahead log (eventstore/erasing.py). The log's
-- end when the key was destroyed is in `position`: what folds the log has forgotten the person once it is there.
CREATE TABLE IF NOT EXISTS private.erasures (
    person_id    uuid PRIMARY KEY,
    position     bigint NOT NULL,
    destroyed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT, INSERT, UPDATE ON private.erasures TO ludoteca_app;
