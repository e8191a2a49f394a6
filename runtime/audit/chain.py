"""Audit the log: its hash chain, the anchor to start from, the consumers' checkpoints that it must
reach, and the signed checkpoints that it must have.

The log is walked by stretches of STRETCH positions, in one process or several. Each begins at the
hash that is stored for the event before it, which the stretch before proves.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from multiprocessing import get_context

import msgspec
import psycopg

from eventstore.chain import GENESIS, ChainVerifier, Fault
from eventstore.database.postgres import connect
from eventstore.proofs.merkle import join, leaf_hash
from eventstore.proofs.notes import Checkpoint
from eventstore.proofs.origin import origin_now
from eventstore.proofs.walking import Walk, stray_now
from kit.children import end_with_parent

STRETCH = 1 << 14
"""How many positions a process verifies at a time: a power of two, so that the hashes of stretches
are nodes of the Merkle tree."""

_SPAWN = get_context("spawn")

_HEAD = "SELECT coalesce(max(position), 0) FROM log.events"
_BEFORE = "SELECT hash, timestamptz_send(recorded_at) FROM log.events WHERE position = %s"
_HASHES = "SELECT hash FROM log.events WHERE position > %s AND position <= %s ORDER BY position"
_CONSUMERS = "SELECT feed, position FROM consumers.checkpoints ORDER BY feed"
_SIGNED = """
SELECT h.size, h.made_at FROM log.tree_heads h LEFT JOIN log.events e ON e.position = h.size
WHERE h.void IS NULL AND h.hash IS DISTINCT FROM e.hash ORDER BY h.size LIMIT 1
"""
_EPOCH = """
SELECT number, begun_at, position, reason FROM log.epochs WHERE position < %s
ORDER BY number DESC LIMIT 1
"""

Progress = Callable[[str, int, int], None]


class Anchor(msgspec.Struct, frozen=True):
    """A position whose hash was noted elsewhere earlier."""

    position: int = 0
    hash: bytes = GENESIS

    def __str__(self) -> str:
        return f"{self.position}:{self.hash.hex()}"


class Finding(msgspec.Struct, frozen=True):
    """The result of an audit: from `after` to `position`, where the hash is `hash`, the log is
    intact; `faults` are what is wrong."""

    after: int
    position: int
    hash: bytes
    faults: Sequence[Fault]


class Stretch(msgspec.Struct, frozen=True):
    """Positions after `after` up to `upto`. `hash` is that of the event at `after`; None: as the
    log has it."""

    after: int
    upto: int
    hash: bytes | None = None


class Walked(msgspec.Struct, frozen=True):
    """How far a stretch is intact, from which hash to which."""

    began: bytes
    position: int
    hash: bytes
    fault: Fault | None


class Auditors:
    """Who reads the log: so many processes of an executor, or this one over its connection."""

    def __init__(
        self, conn: psycopg.Connection, executor: Executor | None = None, count: int = 0
    ) -> None:
        self._conn = conn
        self._executor = executor
        self._ahead = 2 * count

    def walk(self, stretches: Iterator[Stretch]) -> Iterator[Walked]:
        """Verify stretches, and pass on what was found in their order."""
        waiting: deque[Future[Walked]] = deque()
        for stretch in stretches:
            if self._executor is None:
                yield _walk(self._conn, stretch)
                continue
            waiting.append(self._executor.submit(_walk_here, stretch))
            if len(waiting) > self._ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def nodes(self, size: int) -> Iterator[tuple[int, bytes]]:
        """The nodes of the Merkle tree over each stretch up to this size: where it ends, its
        hash."""
        ends = [*range(STRETCH, size, STRETCH), *([size] if size else [])]
        if self._executor is None:
            yield from ((end, _node(self._conn, end)) for end in ends)
        else:
            yield from zip(ends, self._executor.map(_node_here, ends), strict=True)


@contextmanager
def auditors(conn: psycopg.Connection, url: str, count: int) -> Iterator[Auditors]:
    """So many processes that read the log, until the end of the block."""
    if count < 2:
        yield Auditors(conn)
        return
    with ProcessPoolExecutor(count, _SPAWN, _open, (url,)) as executor:
        try:
            yield Auditors(conn, executor, count)
        finally:
            executor.shutdown(cancel_futures=True)


def audit(
    url: str,
    anchor: Anchor | None,
    checkpoints: Sequence[Checkpoint],
    progress: Progress,
    *,
    jobs: int = 1,
    reached: Callable[[Anchor], None] | None = None,
) -> Finding:
    """Verify the chain up to the current head, and that the log has what the checkpoints say. Each
    checkpoint's signature has been verified. `reached` is called with each position that turns out
    to be intact. Raises psycopg.Error."""
    start = anchor or Anchor()
    with connect(url, "ludoteca audit") as conn:
        # read before the head, so that no honest checkpoint can be beyond it
        beyond = conn.execute(_CONSUMERS).fetchall()
        head = _one(conn, _HEAD)
        faults = [
            Fault(
                head + 1,
                f"removed: {name} has read up to position {position}, but the log ends at {head}",
            )
            for name, position in beyond
            if position > head
        ]
        faults += _signed(conn)
        if found := stray_now(conn):
            faults.append(found)
        fault = _at_anchor(conn, start, head)
        end = start
        with auditors(conn, url, jobs) as team:
            if fault is None:
                for step in _steps(team, start, head):
                    if isinstance(step, Fault):
                        fault = step
                        break
                    end = step
                    if reached is not None:
                        reached(end)
                    if end.position > start.position:  # nothing is told of nothing
                        progress("audit", end.position - start.position, head - start.position)
            for checkpoint in checkpoints:
                faults += _against(conn, team, checkpoint, head, progress)
    others = sorted(faults, key=lambda each: each.position)
    return Finding(start.position, end.position, end.hash, [*([fault] if fault else []), *others])


def _steps(team: Auditors, start: Anchor, head: int) -> Iterator[Anchor | Fault]:
    """Where the chain is intact, stretch by stretch, and the fault at the end, if there is one."""
    end = start
    for walked in team.walk(_stretches(start, head)):
        if walked.began != end.hash:
            yield Fault(end.position, "changed while it was verified")
            return
        end = Anchor(walked.position, walked.hash)
        yield end
        if walked.fault:
            yield walked.fault
            return


def _stretches(start: Anchor, head: int) -> Iterator[Stretch]:
    after = start.position
    while after < head:
        upto = min(head, (after // STRETCH + 1) * STRETCH)
        yield Stretch(after, upto, start.hash if after == start.position else None)
        after = upto


_here: list[psycopg.Connection] = []
"""In a process of an executor: its connection."""


def _open(url: str) -> None:
    end_with_parent()
    _here.append(connect(url, "ludoteca audit"))


def _walk_here(stretch: Stretch) -> Walked:
    return _walk(_here[0], stretch)


def _node_here(end: int) -> bytes:
    return _node(_here[0], end)


def _walk(conn: psycopg.Connection, stretch: Stretch) -> Walked:
    row: tuple[bytes | None, bytes | None] | None = None
    with conn.cursor(binary=True) as cursor:
        if stretch.after > 0:
            row = cursor.execute(_BEFORE, (stretch.after,)).fetchone()
        stored, time = row or (GENESIS, None)
        began = (stored or b"") if stretch.hash is None else stretch.hash
        verifier = ChainVerifier(stretch.after, began, time)
        walk, fault = Walk(verifier, stretch.upto), None
        while not walk.done and fault is None:
            fault = walk.take(cursor.execute(*walk.query).fetchall())
    return Walked(began, verifier.position, verifier.hash, fault)


def _node(conn: psycopg.Connection, end: int) -> bytes:
    """The node over the events of the stretch that ends there; of those that are there."""
    with conn.cursor(binary=True) as cursor:
        rows = cursor.execute(_HASHES, ((end - 1) // STRETCH * STRETCH, end)).fetchall()
    return join([leaf_hash(row_hash or b"") for (row_hash,) in rows])


def _at_anchor(conn: psycopg.Connection, anchor: Anchor, head: int) -> Fault | None:
    """Check that the log still has the anchor's row with its hash."""
    if anchor.position > head:
        return Fault(
            head + 1, f"removed: the log ends at {head}, before the anchor at {anchor.position}"
        )
    row = conn.execute(_BEFORE, (anchor.position,)).fetchone()
    there = GENESIS if anchor.position == 0 else row[0] if row else None
    if there is None:
        return Fault(anchor.position, "removed: the anchor's row is not there")
    if there != anchor.hash:
        return Fault(
            anchor.position, "changed, at or before this position: the hash is not the anchor's"
        )
    return None


def _signed(conn: psycopg.Connection) -> list[Fault]:
    """The first of the program's own signed checkpoints that the log does not have any more."""
    row: tuple[int, datetime] | None = conn.execute(_SIGNED).fetchone()
    if row is None:
        return []
    size, made_at = row
    what = f"the checkpoint of {size} events, signed at {made_at:%Y-%m-%dT%H:%M:%SZ}"
    return [Fault(size, f"changed or removed, at or before this position: {what}, does not fit")]


def _against(
    conn: psycopg.Connection, team: Auditors, checkpoint: Checkpoint, head: int, progress: Progress
) -> list[Fault]:
    """What of a checkpoint the log does not have."""
    size = checkpoint.size
    if (origin := origin_now(conn)) not in (None, checkpoint.origin):
        reason = (
            f"the checkpoint is of another log, {checkpoint.origin}, and this one is {origin}; or"
            " it was rewritten from its first event on"
        )
        return [Fault(1, reason)]
    if size > head:
        ends = f"the log ends at {head}, before the checkpoint's {size}"
        return [Fault(head + 1, f"removed: {ends}{_told(conn, size)}")]
    nodes = []
    for end, node in team.nodes(size):
        nodes.append(node)
        progress("tree", end, size)
    if join(nodes) == checkpoint.root:
        return []
    told = _told(conn, size)
    return [
        Fault(
            size,
            "changed, at or before this position: the log has another history than the checkpoint"
            f" of {size} events{told}",
        )
    ]


def _told(conn: psycopg.Connection, size: int) -> str:
    """What the log itself tells of a stretch before this size that it has lost."""
    row = conn.execute(_EPOCH, (size,)).fetchone()
    if row is None or row[0] == 1:
        return ""
    number, begun_at, position, reason = row
    return (
        f"; the last break that the log knows of before that: it went back to position {position}"
        f" at {begun_at:%Y-%m-%dT%H:%M:%SZ} (epoch {number}: {reason})"
    )


def _one(conn: psycopg.Connection, query: str) -> int:
    row = conn.execute(query.encode()).fetchone()
    return int(row[0]) if row else 0
