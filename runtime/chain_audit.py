"""Audit the log: its hash chain, the anchor to start from, and the checkpoints that it must
reach."""

from collections.abc import Callable, Sequence

import msgspec

from eventstore.chain import GENESIS, ChainVerifier, Fault
from eventstore.postgres_log import PostgresLog


class Anchor(msgspec.Struct, frozen=True):
    """A position whose hash was noted elsewhere earlier."""

    position: int = 0
    hash: bytes = GENESIS


class Finding(msgspec.Struct, frozen=True):
    """The result of an audit: from `after` to `position`, where the hash is `hash`, the log is
    intact; `faults` are what is wrong."""

    after: int
    position: int
    hash: bytes
    faults: Sequence[Fault]


async def audit(
    log: PostgresLog, anchor: Anchor | None, progress: Callable[[int, int], None]
) -> Finding:
    """Verify the chain up to the current head. `progress` is called with the number of positions
    done and to do."""
    start = anchor or Anchor()
    # read before the head, so that no honest checkpoint can be beyond it
    beyond = await _checkpoints(log)
    head = await log.head()
    faults = [
        Fault(
            head + 1,
            f"removed: {name} has read up to position {position}, but the log ends at {head}",
        )
        for name, position in beyond
        if position > head
    ]
    verifier = ChainVerifier(start.position, start.hash)
    fault = await _at_anchor(log, start, head)
    if fault is None:
        async for step in log.verify(verifier, upto=head):
            if isinstance(step, Fault):
                fault = step
            else:
                progress(step - start.position, head - start.position)
    return Finding(
        start.position, verifier.position, verifier.hash, [*([fault] if fault else []), *faults]
    )


async def _checkpoints(log: PostgresLog) -> list[tuple[str, int]]:
    async with log.pool.connection() as conn:
        return await (
            await conn.execute("SELECT feed, position FROM consumers.checkpoints ORDER BY feed")
        ).fetchall()


async def _at_anchor(log: PostgresLog, anchor: Anchor, head: int) -> Fault | None:
    """Check that the log still has the anchor's row with its hash."""
    if anchor.position > head:
        return Fault(
            head + 1, f"removed: the log ends at {head}, before the anchor at {anchor.position}"
        )
    async with log.pool.connection() as conn:
        found = await conn.execute(
            "SELECT hash FROM log.events WHERE position = %s", (anchor.position,)
        )
        row = await found.fetchone()
    there = row[0] if row else GENESIS if anchor.position == 0 else None
    if there is None:
        return Fault(anchor.position, "removed: the anchor's row is not there")
    if there != anchor.hash:
        return Fault(
            anchor.position, "changed, at or before this position: the hash is not the anchor's"
        )
    return None
