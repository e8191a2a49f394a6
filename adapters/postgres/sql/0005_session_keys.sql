-- Under which key (its SHA-256) the last generation of a session's refresh token was spent: a repeat under the same key
-- is the same request, by a browser with two windows or one that missed the answer, and no theft.
ALTER TABLE private.sessions ADD COLUMN spent_under bytea;
