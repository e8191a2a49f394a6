"""Makes proofs from the log, the stored tree and signed checkpoints. Each is checked before it is
given out."""

import asyncio
from base64 import b64encode
from collections.abc import Sequence

import psycopg

from eventstore.proofs import documents, heads, merkle, tree
from eventstore.proofs.documents import ConsistencyProof, InclusionProof, ProvenEvent
from eventstore.proofs.heads import Head, LogChanged, NoCheckpoint
from eventstore.proofs.keys import known_keys
from eventstore.proofs.notes import PublicKey, parse

_EVENTS = """
SELECT event_id, stream_id, version, name, actor, correlation_id, causation_id, traceparent,
    occurred_at, recorded_at, payload,
    (SELECT hash FROM log.events b WHERE b.position = e.position - 1)
FROM unnest(%s::bigint[]) WITH ORDINALITY AS wanted(at, n)
JOIN log.events e ON e.position = wanted.at ORDER BY wanted.n
"""
_FIELDS = (
    *("event_id", "stream_id", "version", "name", "actor", "correlation_id", "causation_id"),
    *("traceparent", "occurred_at", "recorded_at"),
)
_END = "SELECT coalesce(max(position), 0) FROM log.events"


class NoSuchPosition(LookupError):
    """The log has no such position. The message says where it ends."""


class NotSignedYet(LookupError):
    """No signed checkpoint has the event yet."""


async def prove_event(
    conn: psycopg.AsyncConnection, position: int, size: int | None = None
) -> InclusionProof:
    """Prove the event at a position, by the checkpoint of a size, or else the latest one. Raises
    NoSuchPosition, NotSignedYet, NoCheckpoint, LogChanged, TreeDamaged."""
    return (await prove_events(conn, [position], size))[0]


async def prove_events(
    conn: psycopg.AsyncConnection, positions: Sequence[int], size: int | None = None
) -> list[InclusionProof]:
    """As `prove_event`, for several events by one checkpoint."""
    last = max(positions)
    end = await (await conn.execute(_END)).fetchone()
    if min(positions) < 1 or end is None or last > end[0]:
        raise NoSuchPosition(f"there is no position {last}: the log ends at {end and end[0]}")
    head = await (heads.latest(conn) if size is None else heads.of_size(conn, size))
    if head is None or (size is None and head.size < last):
        raise NotSignedYet(f"position {last} is in the next checkpoint; none has it yet")
    if head.size < last:
        raise NoCheckpoint(f"the checkpoint of {size} events does not have position {last}")
    await _must_be_there(conn, head)
    rows = await (await conn.execute(_EVENTS, (list(positions),), binary=True)).fetchall()
    if len(rows) != len(positions):
        raise LogChanged(f"some of the positions up to {last} are not there")
    paths = [merkle.inclusion_nodes(position - 1, head.size) for position in positions]
    nodes = list(dict.fromkeys(node for path in paths for node in path))
    hashes = dict(zip(nodes, await tree.hashes_of(conn, nodes), strict=True))
    proofs = [
        InclusionProof(
            position=position,
            event=ProvenEvent.with_payload(payload, **dict(zip(_FIELDS, fields, strict=True))),
            previous_hash=(previous or bytes(32)).hex(),
            path=[b64encode(hashes[node]).decode() for node in path],
            checkpoint=head.note,
        )
        for (*fields, payload, previous), position, path in zip(rows, positions, paths, strict=True)
    ]
    keys = await _own_keys(conn, head)
    await asyncio.to_thread(_must_hold, proofs, head, keys)  # thousands take a second
    return proofs


async def prove_consistency(conn: psycopg.AsyncConnection, old: int, new: int) -> ConsistencyProof:
    """Prove that the log of the checkpoint of `new` events begins with that of `old` events. Raises
    NoCheckpoint, LogChanged, TreeDamaged."""
    if old > new:
        raise NoCheckpoint(f"a log of {old} events cannot be the beginning of one of {new}")
    before, head = await heads.of_size(conn, old), await heads.of_size(conn, new)
    await _must_be_there(conn, head)
    proof = ConsistencyProof(
        path=await consistency_path(conn, old, new),
        old_checkpoint=before.note,
        checkpoint=head.note,
    )
    _must_hold([proof], head, await _own_keys(conn, head))
    return proof


async def consistency_path(conn: psycopg.AsyncConnection, old: int, new: int) -> list[str]:
    """The hashes of a proof of consistency, in base64. Raises TreeDamaged."""
    found = await tree.hashes_of(conn, merkle.consistency_nodes(old, new))
    return [b64encode(each).decode() for each in found]


async def _must_be_there(conn: psycopg.AsyncConnection, head: Head) -> None:
    if not await heads.is_there(conn, head):
        raise LogChanged(
            f"the log does not have the {head.size} events of its checkpoint: it went back, or was"
            " changed"
        )


async def _own_keys(conn: psycopg.AsyncConnection, head: Head) -> list[PublicKey]:
    known = await known_keys(conn, parse(head.note).checkpoint.origin)
    return [each.key for each in known]


def _must_hold(proofs: Sequence[documents.Proof], head: Head, keys: Sequence[PublicKey]) -> None:
    """The log's own keys suffice: this looks for damage, not for forgers."""
    try:
        note = parse(head.note)
        note.signed_by(keys)
        for proof in proofs:
            documents.check_path(proof, note.checkpoint, keys)
    except documents.BadProof as error:
        raise tree.TreeDamaged(
            f"the proof would not hold ({error}): `ludoteca audit verify` tells whether the log was"
            " changed, and `ludoteca audit rebuild-tree` computes the stored tree anew"
        ) from error
