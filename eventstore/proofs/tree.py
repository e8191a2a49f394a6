"""The stored part of the Merkle tree over the log (`log.tree`).

Leaf p - 1 is the chain's hash at position p, which covers the event, its place, its time and all
events before it. Leaves are not stored again: they are read from `log.events`. The rest is a
shortcut, never the truth: what is computed from it is compared with a checkpoint's root.
"""

from collections.abc import Iterable, Sequence

import psycopg

from eventstore.proofs.frontier import Frontier, StoredNode, edge
from eventstore.proofs.merkle import Node, Span, hash_of, leaf_hash, spans

_LEAVES = """
SELECT array_agg(e.hash ORDER BY e.position)
FROM unnest(%s::bigint[], %s::bigint[]) WITH ORDINALITY AS s(first, count, n)
LEFT JOIN LATERAL (
    SELECT position, hash FROM log.events
    WHERE position > s.first AND position <= s.first + s.count OFFSET 0
) e ON true
GROUP BY s.n ORDER BY s.n
"""
_NODES = """
SELECT array_agg(t.hash ORDER BY t.number)
FROM unnest(%s::int[], %s::bigint[], %s::bigint[]) WITH ORDINALITY AS s(level, first, count, n)
LEFT JOIN LATERAL (
    SELECT number, hash FROM log.tree
    WHERE level = s.level AND number >= s.first AND number < s.first + s.count OFFSET 0
) t ON true
GROUP BY s.n ORDER BY s.n
"""
_PUT = """
INSERT INTO log.tree (level, number, hash)
SELECT * FROM unnest(%s::int[], %s::bigint[], %s::bytea[])
ON CONFLICT (level, number) DO UPDATE SET hash = excluded.hash
WHERE tree.hash <> excluded.hash
"""
_CUT = "DELETE FROM log.tree WHERE (number + 1) * 256::numeric ^ level > %s"


class TreeDamaged(Exception):
    """The stored tree lacks nodes, or does not lead to the root that was signed."""


async def hashes_of(conn: psycopg.AsyncConnection, nodes: Sequence[Node]) -> list[bytes]:
    """The hashes of nodes, from leaves and stored nodes. Raises TreeDamaged."""
    parts = [spans(node) for node in nodes]
    stored = iter(await _read(conn, [span for part in parts for span in part]))
    return [hash_of([next(stored) for _ in part]) for part in parts]


async def frontier(conn: psycopg.AsyncConnection, size: int) -> Frontier:
    """The edge of the tree of this size. Raises TreeDamaged."""
    return Frontier(size, await _read(conn, edge(size)))


async def put(conn: psycopg.AsyncConnection, nodes: Iterable[StoredNode]) -> None:
    """Store complete nodes; what was stored in their place is overwritten."""
    columns = [(node.level, node.number, node.hash) for node in nodes]
    if columns:
        await conn.execute(_PUT, [list(column) for column in zip(*columns, strict=True)])


async def cut(conn: psycopg.AsyncConnection, size: int) -> None:
    """Delete all nodes that have a leaf beyond this size."""
    await conn.execute(_CUT, (size,))


async def _read(conn: psycopg.AsyncConnection, wanted: Sequence[Span]) -> list[list[bytes]]:
    leaves = [span for span in wanted if span.level == 0]
    above = [span for span in wanted if span.level > 0]
    found: dict[Span, list[bytes]] = {}
    if leaves:
        columns = ([span.first for span in leaves], [span.count for span in leaves])
        rows = await (await conn.execute(_LEAVES, columns)).fetchall()
        for span, (hashes,) in zip(leaves, rows, strict=True):
            found[span] = [leaf_hash(each) for each in _whole(span, hashes)]
    if above:
        three = (
            [span.level for span in above],
            [span.first for span in above],
            [span.count for span in above],
        )
        rows = await (await conn.execute(_NODES, three)).fetchall()
        for span, (hashes,) in zip(above, rows, strict=True):
            found[span] = _whole(span, hashes)
    return [found[span] for span in wanted]


def _whole(span: Span, found: Sequence[bytes | None]) -> list[bytes]:
    hashes = [each for each in found if each is not None]
    if len(hashes) != span.count:
        what = "the log lacks events" if span.level == 0 else "the stored tree lacks nodes"
        raise TreeDamaged(f"{what}: of {span.count} from {span.first}, {len(hashes)} are there")
    return hashes
