"""Signed checkpoints and proofs, for auditors (docs/proofs.md)."""

from collections.abc import Sequence

from psycopg_pool import AsyncConnectionPool

from eventstore.proofs import heads, proving
from eventstore.proofs.documents import ConsistencyProof, InclusionProof
from eventstore.proofs.heads import Head, NoCheckpoint
from eventstore.proofs.keys import KnownKey, known_keys
from eventstore.proofs.origin import origin


class Proofs:
    """What the log's stored tree and its signed checkpoints prove."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def checkpoints(self, before: int, limit: int) -> Sequence[Head]:
        """Checkpoints with numbers below `before`, the latest first."""
        async with self._pool.connection() as conn:
            return await heads.page(conn, before, limit)

    async def checkpoint(self, size: int | None) -> Head:
        """The checkpoint of so many events, or the latest one. Raises NoCheckpoint."""
        async with self._pool.connection() as conn:
            if size is not None:
                return await heads.of_size(conn, size)
            head = await heads.latest(conn)
        if head is None:
            raise NoCheckpoint("no checkpoint was signed yet")
        return head

    async def signed(self) -> int:
        """How many events the latest checkpoint has."""
        async with self._pool.connection() as conn:
            head = await heads.latest(conn)
        return 0 if head is None else head.size

    async def keys(self) -> Sequence[KnownKey]:
        """The public keys, the oldest first; none while the log is empty."""
        async with self._pool.connection() as conn:
            name = await origin(conn)
            return [] if name is None else await known_keys(conn, name)

    async def of_event(self, position: int, size: int | None) -> InclusionProof:
        """A proof that the log has the event at a position. Raises as `prove_event`."""
        async with self._pool.connection() as conn:
            return await proving.prove_event(conn, position, size)

    async def of_consistency(self, old: int, new: int) -> ConsistencyProof:
        """A proof that the later checkpoint's log begins with the earlier one's. Raises as
        `prove_consistency`."""
        async with self._pool.connection() as conn:
            return await proving.prove_consistency(conn, old, new)
