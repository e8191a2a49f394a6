-- Queries do not read a feed before it has caught up: until then `ready_at` is the position that it has to reach. A feed
-- of a new version begins so, and one whose storage was lost. NULL: it has been there, or is built or kept by a rebuild.
ALTER TABLE consumers.feeds ADD COLUMN ready_at bigint;
