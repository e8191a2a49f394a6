"""Copies a log's history from PostgreSQL to KurrentDB or back, and verifies it by its chain.

A copy that was killed goes on where it was when it is started again: in KurrentDB behind the last
event there, in PostgreSQL behind the mirror's checkpoint.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any, LiteralString

import msgspec
import psycopg
from kurrentdbclient import AsyncKurrentDBClient, NewRecord, StreamState
from kurrentdbclient.events import StreamStateCheck

from adapters.kurrentdb import following, wire
from adapters.kurrentdb.client import open_client
from adapters.kurrentdb.following import CALL_SECONDS
from adapters.kurrentdb.mirror import FAILURES, MIRROR, Halted, Mirror
from adapters.kurrentdb.mirror_table import Checkpoint
from adapters.kurrentdb.mirrored_chain import MirroredChain
from adapters.kurrentdb.wire import Copied, CopiedOnce
from eventstore.chain import GENESIS, ChainVerifier, Fault
from eventstore.codec import Codec
from eventstore.consumers.checkpoints import try_lead
from eventstore.database.postgres import connect, connect_async
from eventstore.pages import HEAD
from eventstore.postgres_log import PostgresLog
from kit.cancellation import cancellations, stop_if_cancelled

PAGE_EVENTS, PAGE_BYTES = 500, 512 << 10
"""Of one append to KurrentDB, whose own limit may be 1 MiB; a larger event goes alone."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is to do."""

TRIES = 5
"""How often in a row something may fail."""

_PAGE = """
SELECT event_id, stream_id, version, name, payload, actor, correlation_id, causation_id,
    traceparent, occurred_at, 0, 0, recorded_at
FROM (
    SELECT *, sum(octet_length(payload) + 500) OVER (ORDER BY position) AS bytes
    FROM (SELECT * FROM log.events WHERE position > %(after)s ORDER BY position LIMIT %(most)s) AS n
) AS page
WHERE bytes <= %(bytes)s OR position = %(after)s + 1
ORDER BY position
"""
_KEYS = """
SELECT position, key, fingerprint, refs, expires_at FROM log.once
WHERE position > %s AND position <= %s ORDER BY position
"""
_POSITION = """
SELECT position FROM log.events WHERE stream_id = %s AND version = %s AND event_id = %s
"""
_HASH = "SELECT hash FROM log.events WHERE position = %s"


class CopyError(Exception):
    """The two histories differ, or the copy is not what was copied. The message says where."""


class VerifiedCopy(msgspec.Struct, frozen=True):
    """A verified copy: both logs have the same hash at the position."""

    position: int
    hash: bytes


# -- to KurrentDB ----------------------------------------------------------------------------------


async def to_kurrentdb(url: str, kurrentdb_url: str, progress: Progress) -> VerifiedCopy:
    """Copy PostgreSQL's events and idempotency keys, as far as the log goes now.

    Raises CopyError, ConnectionError, psycopg.Error.
    """
    try:
        async with (
            await connect_async(url, "ludoteca log copy") as conn,
            open_client(kurrentdb_url) as client,
        ):
            head = await _number(conn, HEAD)
            begun = position = await _end(conn, client)
            async with conn.cursor(name="keys", withhold=True) as cursor:
                await cursor.execute(_KEYS, (position, head))
                keys = _Keys(cursor)
                while position < head:
                    page = await _page(conn, position, head)
                    upto = position + len(page)
                    records = _records(page, position, await keys.upto(upto))
                    await _append(conn, client, records, _checks(page), position, upto)
                    position = upto
                    progress("events copied", position - begun, head - begun)
            return await _verify_kurrentdb(conn, client, head, progress)
    except ConnectionError:
        raise
    except following.FAILURES as error:
        raise ConnectionError(f"KurrentDB does not answer: {error!r}") from error


async def _end(conn: psycopg.AsyncConnection, client: AsyncKurrentDBClient) -> int:
    """The position of KurrentDB's last event. Raises CopyError if PostgreSQL does not have it."""
    async with aclosing(following.records(client, backwards=True)) as records:
        async for recorded in records:
            event = wire.read(recorded)
            if isinstance(event, Copied):
                place = (event.stream_id, event.version, event.event_id)
                row = await (await conn.execute(_POSITION, place)).fetchone()
                if row is None:
                    raise CopyError(
                        f"KurrentDB has another history: its last event, {event.event_id} of stream"
                        f" {event.stream_id}, is not in PostgreSQL. Nothing was copied"
                    )
                return int(row[0])
    return 0


async def _page(conn: psycopg.AsyncConnection, after: int, head: int) -> list[Copied]:
    most = min(PAGE_EVENTS, head - after)
    cursor = await conn.execute(_PAGE, {"after": after, "most": most, "bytes": PAGE_BYTES})
    rows = await cursor.fetchall()
    return [Copied(*row) for row in rows]


class _Keys:
    """The idempotency keys, in the order of their positions."""

    def __init__(self, cursor: psycopg.AsyncServerCursor[tuple[Any, ...]]) -> None:
        self._cursor = cursor
        self._next: tuple[Any, ...] | None = None

    async def upto(self, position: int) -> list[tuple[Any, ...]]:
        """The next ones, up to a position."""
        found = []
        while self._next is None or self._next[0] <= position:
            if self._next is not None:
                found.append(self._next)
            self._next = await self._cursor.fetchone()
            if self._next is None:
                break
        return found


def _records(
    page: Sequence[Copied], after: int, keys: Sequence[tuple[Any, ...]]
) -> list[NewRecord]:
    """The events behind a position, after their keys, as one append."""
    records = []
    for position, key, fingerprint, refs, expires_at in keys:
        event = page[position - after - 1]
        once = CopiedOnce(
            key,
            fingerprint,
            msgspec.json.decode(refs, type=dict[str, str]),
            expires_at,
            event.stream_id,
            event.version,
        )
        records.append(wire.once_record(once))
    for number, event in enumerate(page):
        numbered = msgspec.structs.replace(event, number=number, of=len(page))
        records.append(wire.event_record(numbered))
    return records


def _checks(page: Sequence[Copied]) -> list[StreamStateCheck]:
    """That each stream is where the page goes on."""
    first = {event.stream_id: event.version for event in reversed(page)}
    return [
        StreamStateCheck(
            wire.stream_name(stream_id), version - 2 if version > 1 else StreamState.NO_STREAM
        )
        for stream_id, version in first.items()
    ]


async def _append(
    conn: psycopg.AsyncConnection,
    client: AsyncKurrentDBClient,
    records: Sequence[NewRecord],
    checks: Sequence[StreamStateCheck],
    position: int,
    upto: int,
) -> None:
    """Append once, whatever the answer: KurrentDB's end tells whether it happened."""
    failure: Exception | None = None
    for tried in range(TRIES):
        try:
            await following.answer(client.append_records(records, checks, timeout=CALL_SECONDS))
            return
        except FAILURES as error:
            failure = error
            await asyncio.sleep(tried / 2)
        with suppress(*FAILURES):
            end = await _end(conn, client)
            if end == upto:
                return
            if end != position:
                raise CopyError(
                    f"somebody else appends to KurrentDB: its last event is at {end}, and not at"
                    f" {position}"
                )
    raise ConnectionError(f"KurrentDB does not take the events: {failure}") from failure


async def _verify_kurrentdb(
    conn: psycopg.AsyncConnection, client: AsyncKurrentDBClient, head: int, progress: Progress
) -> VerifiedCopy:
    """Compute the chain of what KurrentDB has. Raises CopyError unless it is PostgreSQL's."""
    chain, records = MirroredChain(), list[Copied | CopiedOnce]()
    async with following.following(client, 0) as inbox:
        caught_up = False
        while not caught_up:
            for recorded in await inbox.take(CALL_SECONDS):
                caught_up = caught_up or recorded.is_caught_up
                if not recorded.is_caught_up and (record := wire.read(recorded)) is not None:
                    records.append(record)
            whole = following.whole(records)
            chain.add([record for record in records[:whole] if isinstance(record, Copied)])
            del records[:whole]
            if await _hash(conn, chain.position) != chain.hash:
                raise CopyError(f"the copy differs at position {chain.position}, or before it")
            progress("events verified", chain.position, head)
    if chain.position < head:
        raise CopyError(f"the copy ends at position {chain.position}, and not at {head}")
    return VerifiedCopy(chain.position, chain.hash)


# -- to PostgreSQL ---------------------------------------------------------------------------------


async def to_postgresql(
    kurrentdb_url: str, url: str, codec: Codec, progress: Progress
) -> VerifiedCopy:
    """Copy KurrentDB's events and idempotency keys into a migrated database. PostgreSQL is the log
    of record from then on.

    Raises CopyError, ConnectionError, psycopg.Error, OutdatedRelease.
    """
    with connect(url, "ludoteca log copy", role="") as conn:
        if not try_lead(conn, MIRROR):
            raise CopyError("a mirror follows KurrentDB into this database: stop the shop first")
        end = await _mirrored(Mirror(kurrentdb_url, url, codec.kinds), progress)
        verified = await _verify_postgresql(url, codec, end.position, progress)
        with conn.transaction():
            conn.execute("DELETE FROM log.mirror")
            conn.execute("ALTER TABLE log.events DISABLE TRIGGER only_the_mirror")
    return verified


async def _mirrored(mirror: Mirror, progress: Progress) -> Checkpoint:
    failures, since = 0, cancellations()
    while True:
        stop_if_cancelled(since)
        try:
            return await mirror.catch_up(lambda done, all: progress("bytes copied", done, all))
        except Halted as fault:
            raise CopyError(str(fault)) from fault
        except following.FAILURES as error:
            failures += 1
            if failures == TRIES:
                raise ConnectionError(f"KurrentDB does not answer: {error!r}") from error
            await asyncio.sleep(failures / 2)


async def _verify_postgresql(url: str, codec: Codec, upto: int, progress: Progress) -> VerifiedCopy:
    verifier = ChainVerifier()
    async with PostgresLog.open(url, codec, pool_size=2) as log:
        async for step in log.verify(verifier, upto=upto):
            if isinstance(step, Fault):
                raise CopyError(f"position {step.position}: {step.reason}")
            progress("events verified", step, upto)
    return VerifiedCopy(verifier.position, verifier.hash)


async def _number(conn: psycopg.AsyncConnection, query: LiteralString) -> int:
    row = await (await conn.execute(query)).fetchone()
    assert row is not None
    return int(row[0])


async def _hash(conn: psycopg.AsyncConnection, position: int) -> bytes:
    """PostgreSQL's hash at a position; that before the first event at 0."""
    row = await (await conn.execute(_HASH, (position,))).fetchone()
    return GENESIS if row is None else bytes(row[0])
