"""Decide and append: run a decision on loaded states, and append what it emits at their versions.

For streams that are appended to, the version check makes outdated states safe; for streams that are
only read, their versions are checked with the append. After a conflict, or any other outcome of a
decision on outdated cached states (a refusal, a failure, no event), the decision runs again on
fresh ones before anybody sees it. It also runs again when the log's history changed meanwhile.

A decision does not wait for the appends before it: it rests on the states that they will leave
(`eventstore.flight`). It runs again when one of them fails, and nobody sees it before they are in
the log.
"""

from collections.abc import Awaitable, Callable, Container
from time import monotonic
from typing import TypeVar
from uuid import UUID

import msgspec

from eventstore.database.postgres import is_away
from eventstore.log import (
    AlreadyDone,
    Appended,
    IdempotencyKey,
    Metadata,
    PredecessorFailed,
    StreamAppend,
    VersionConflict,
)
from eventstore.repository import Repository
from eventstore.turns import Turn
from eventstore.unit_of_work import ALL_STREAMS, UnitOfWork
from kit.cancellation import cancellations, stop_if_cancelled
from kit.metrics import REPEATED_DECISIONS

R = TypeVar("R")

Decision = Callable[[UnitOfWork], Awaitable[R]]

ATTEMPTS = 20
"""How often a decision runs while others keep appending first."""

LOSING_SECONDS = 5.0
"""How long it runs again after its first loss, whether others came first itself or it rested on an
append that lost."""


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
    states is tried on fresh ones first. Raises VersionConflict after ATTEMPTS, or LOSING_SECONDS;
    whatever the decision or the append raises; AlreadyDone, also instead of a `refusal`.
    """
    outdated: Container[UUID] = ()
    missing, caught_up, conflicts = frozenset[UUID](), False, 0
    since = cancellations()
    async with Turn(repository.turns) as turn:
        losing_since: float | None = None
        while True:
            stop_if_cancelled(since)
            unit = UnitOfWork(repository, metadata, outdated=outdated, missing=missing)
            appends: list[StreamAppend] = []
            try:
                result = await decision(unit)
                appends = unit.appends()
                if not appends:
                    turn.leave()
                    caught_up = False
                    if outdated := await unit.outdated():
                        continue
                    return result, None
                gave_way = await turn.take(append.stream_id for append in appends)
                if gave_way or (not caught_up and unit.is_outrun()):
                    # Others have decided meanwhile: this would lose. In its turn, it comes next.
                    outdated = ALL_STREAMS if gave_way and not unit.is_ahead() else ()
                    caught_up, missing = True, unit.missing()
                    continue
                unit.must_hold()
                key = once and msgspec.structs.replace(
                    once, result_ids={**once.result_ids, **unit.result_ids}
                )
                appended = await unit.append(appends, key, when_departed=turn.leave)
            except VersionConflict as conflict:
                lost = not isinstance(conflict, PredecessorFailed)
                outdated = conflict.moved or (ALL_STREAMS if lost else ())
                conflicts += lost
                REPEATED_DECISIONS.labels("conflict" if lost else "predecessor_failed").inc()
                if losing_since is None:
                    losing_since = monotonic()
                if conflicts == ATTEMPTS or monotonic() >= losing_since + LOSING_SECONDS:
                    raise
                turn.leave()
                caught_up = False
                await turn.take(append.stream_id for append in appends)
            except Exception as error:
                turn.leave()
                caught_up = False
                # no other state would change these
                if isinstance(error, AlreadyDone) or is_away(error):
                    raise
                # Any other failure may be due to outdated states: a rule, or a key destroyed
                # since.
                if outdated := await unit.outdated():
                    continue
                if isinstance(error, refusal):
                    await _raise_if_done(repository, once)
                raise
            else:
                return result, appended


async def _raise_if_done(repository: Repository, once: IdempotencyKey | None) -> None:
    """A refusal may only mean that another process has carried out the same request, sent twice
    at once."""
    if once is not None and (done := await repository.log.done(once.key)) is not None:
        raise AlreadyDone(done)
