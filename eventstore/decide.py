"""Decide and append: run a decision on loaded states, and append what it emits at their versions.

For streams that are appended to, the version check makes outdated states safe; for streams that are
only read, their versions are checked with the append. After a conflict, or any other outcome of a
decision on outdated cached states (a refusal, a failure, no event), the decision runs again on
fresh ones before anybody sees it. It also runs again when the log's history changed meanwhile.
"""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeVar

import msgspec

from eventstore.database.postgres import is_away
from eventstore.log import AlreadyDone, Appended, IdempotencyKey, Metadata, VersionConflict
from eventstore.repository import Repository
from eventstore.unit_of_work import UnitOfWork

R = TypeVar("R")

Decision = Callable[[UnitOfWork], Awaitable[R]]

ATTEMPTS = 20
"""How often a decision runs while others keep appending first."""


async def decide(
    repository: Repository,
    decision: Decision[R],
    metadata: Metadata = Metadata(),
    *,
    once: IdempotencyKey | None = None,
    refusal: type[Exception] = Exception,
) -> tuple[R, Appended | None]:
    """Run a decision and append its events, in its turn at their streams. When another process
    appended first, the decision runs again.

    Returns its result and where it was appended (None without events). Whatever fails on cached
    states is tried on fresh ones first. Raises VersionConflict after ATTEMPTS; whatever the
    decision or the append raises; AlreadyDone, also instead of a `refusal`.
    """
    async with AsyncExitStack() as locks:
        fresh = queued = False
        for attempt in range(1, ATTEMPTS + 1):
            unit = UnitOfWork(repository, metadata, fresh=fresh)
            try:
                result = await decision(unit)
                appends = unit.appends()
                if not appends:
                    if fresh := await unit.is_stale():
                        continue
                    return result, None
                if not queued:
                    contended = await repository.turns.wait(locks, [e.stream_id for e in appends])
                    queued = True
                    if contended:
                        # Others have appended to one of the streams meanwhile: this would lose. In
                        # its turn, the cache is current.
                        continue
                unit.must_hold()
                key = once and msgspec.structs.replace(
                    once, result_ids={**once.result_ids, **unit.result_ids}
                )
                appended = await repository.log.append(appends, unit.metadata, key, unit.reads())
            except VersionConflict:
                if attempt == ATTEMPTS:
                    raise
                fresh = True
            except Exception as error:
                # no other state would change these
                if isinstance(error, AlreadyDone) or is_away(error):
                    raise
                # Any other failure may be due to outdated states: a rule, or a key destroyed
                # since.
                if fresh := await unit.is_stale():
                    continue
                if isinstance(error, refusal):
                    await _raise_if_done(repository, once)
                raise
            else:
                unit.committed()
                return result, appended
        raise AssertionError("unreachable")


async def _raise_if_done(repository: Repository, once: IdempotencyKey | None) -> None:
    """A refusal may only mean that another process has carried out the same request, sent twice
    at once."""
    if once is not None and (done := await repository.log.done(once.key)) is not None:
        raise AlreadyDone(done)
