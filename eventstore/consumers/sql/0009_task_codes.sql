-- Why a task failed, in a word that programs decide by; `error` says it to people.
ALTER TABLE consumers.audit_tasks ADD COLUMN code text NOT NULL DEFAULT '';
