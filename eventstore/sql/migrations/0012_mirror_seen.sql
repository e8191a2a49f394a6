-- Up to what moment the mirror has everything: the time of the last event copied, or of the last look that found no more.
ALTER TABLE log.mirror ADD COLUMN seen_at timestamptz NOT NULL DEFAULT clock_timestamp();
