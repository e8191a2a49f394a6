-- By which time of the server's clock due_at was set: where that is in the future, the clock has gone back since, and
-- due_at means nothing any more. Old rows count as set now.
ALTER TABLE queue.jobs ADD COLUMN set_at timestamptz NOT NULL DEFAULT now();
