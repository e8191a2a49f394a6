"""What committed data tells of appends that failed, or of which no answer came."""

import msgspec
from psycopg.rows import TupleRow

from eventstore.log import IdempotencyRecord

_REPLICATED = """
CASE WHEN current_setting('synchronous_standby_names') <> '' AND NOT pg_is_in_recovery()
    THEN pg_logical_emit_message(true, 'ludoteca', CASE
        WHEN current_setting('synchronous_commit') IN ('off', 'local')
        THEN set_config('synchronous_commit', 'on', true) ELSE '' END) END"""
"""Has the statement end only once everything that it saw is where an append's commit waits for it
to be, whatever the database's default. A server shows what it committed although no synchronous
standby has it, once the wait for one was cancelled or cut by a crash."""

FOUND = f"""
SELECT e.event_id, e.position, e.recorded_at, {_REPLICATED}
FROM unnest(%s::uuid[], %s::bigint[]) AS u(s, v)
JOIN log.events e ON e.stream_id = u.s AND e.version = u.v"""
LOST = """
SELECT 'moved', c.n, c.stream_id FROM unnest(%s::uuid[], %s::bigint[], %s::int[])
    AS c(stream_id, version, n)
WHERE c.version <> coalesce(
    (SELECT e.version FROM log.events e WHERE e.stream_id = c.stream_id
    ORDER BY e.version DESC LIMIT 1), least(c.version, 0))
UNION ALL
SELECT 'foreign', c.n, c.stream_id FROM unnest(%s::uuid[], %s::bigint[], %s::text[], %s::int[])
    AS c(stream_id, version, kind, n)
JOIN log.events e ON e.stream_id = c.stream_id AND e.version = c.version
JOIN log.event_kinds k ON k.name = e.name WHERE k.kind <> c.kind
UNION ALL
SELECT 'known', 0, key FROM log.once WHERE key = ANY (%s)"""
"""Why appends lost: a stream that does not exist yet is at 0; at -1 if its first event is to have
version 0."""

DONE = f"""
SELECT key, fingerprint, refs, position, answer, {_REPLICATED}
FROM log.once WHERE key = ANY (%s)"""


def done_of(row: TupleRow) -> IdempotencyRecord:
    """The record in a row of DONE."""
    return IdempotencyRecord(
        row[0], row[1], msgspec.json.decode(row[2], type=dict[str, str]), row[3], row[4]
    )
