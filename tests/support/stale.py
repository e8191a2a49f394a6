"""Makes every cached state stale, as a process may remember it while others append.

Installed by `pytest --stale-states SEED`, for tests whose outcome must not depend on how fresh a
cache is. A state that a decision takes from the cache at its first attempt, or that a reactor finds
there, is then of any earlier version, picked at random; states that must be read anew are read
anew.
"""

import random
from typing import Any
from uuid import UUID

from eventstore.aggregate import Aggregate
from eventstore.codec import kind_of
from eventstore.repository import Repository
from eventstore.unit_of_work import UnitOfWork, _Stream


def install(seed: int) -> None:
    """Install for the rest of this process."""
    chance, first_load = random.Random(seed), UnitOfWork._first_load

    async def stale(
        repository: Repository, aggregate: Aggregate[Any], stream_id: UUID
    ) -> tuple[int, Any] | None:
        """The stream at some earlier version; None when there is none, or it is of another kind."""
        recorded = await repository.log.read_stream(stream_id)
        if not recorded or kind_of(type(recorded[0].event)) != aggregate.kind:
            return None
        version = chance.randint(1, len(recorded))
        state = aggregate.fold(None, [each.event for each in recorded[:version]])
        return None if state is None else (version, state)

    async def stale_first_load(
        self: UnitOfWork, aggregate: Aggregate[Any], stream_id: UUID, *, likely_new: bool = False
    ) -> _Stream:
        is_first = not self._outdated
        if is_first and likely_new and chance.random() < 0.5:
            return _Stream(aggregate, 0, None, cached=True, events=[])
        if not is_first or (found := await stale(self._repository, aggregate, stream_id)) is None:
            return await first_load(self, aggregate, stream_id, likely_new=likely_new)
        return _Stream(aggregate, *found, cached=True, events=[])

    async def stale_cached(self: Repository, aggregate: Aggregate[Any], stream_id: UUID) -> Any:
        found = await stale(self, aggregate, stream_id)
        return None if found is None else found[1]

    UnitOfWork._first_load = stale_first_load  # type: ignore[method-assign]
    Repository.cached = stale_cached  # type: ignore[method-assign]
