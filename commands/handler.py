"""Handling commands: decide, retry when stale, append, and return the position."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Generic, TypeVar
from uuid import UUID

import msgspec

from commands.caller import Caller
from domain.errors import Refused
from eventstore.aggregate import Aggregate
from eventstore.decide import decide
from eventstore.log import AlreadyDone, IdempotencyKey, Log
from eventstore.repository import Repository
from eventstore.unit_of_work import UnitOfWork
from kit import tracing
from kit.clock import Clock

S = TypeVar("S")
T = TypeVar("T")


class CommandResult(msgspec.Struct, Generic[T], frozen=True):
    """The value that a command made, and the log position that holds it (None when nothing was
    appended)."""

    value: T
    position: int | None


class CommandHandler:
    """Handles decisions on aggregates. Idempotency keys that do not expire by themselves, those of
    reactors, do so after `keep_keys`; None keeps them for ever."""

    def __init__(
        self, repository: Repository, clock: Clock, keep_keys: timedelta | None = None
    ) -> None:
        self.repository = repository
        self.clock = clock
        self._keep_keys = keep_keys

    @property
    def log(self) -> Log:
        """The log, for reading."""
        return self.repository.log

    def now(self) -> datetime:
        """The current time, by which decisions are made."""
        return self.clock.now()

    async def state(self, aggregate: Aggregate[S], stream_id: UUID) -> S | None:
        """The state as the log has it now; None when the stream does not exist."""
        return await self.repository.state(aggregate, stream_id)

    async def cached(self, aggregate: Aggregate[S], stream_id: UUID) -> S | None:
        """The state as this process last saw it: enough for what never changes."""
        return await self.repository.cached(aggregate, stream_id)

    async def get(self, aggregate: Aggregate[S], stream_id: UUID, *, fresh: bool = True) -> S:
        """As `state` or, without `fresh`, as `cached`, for a stream that must exist. Raises
        NotFound."""
        return await self.repository.get(aggregate, stream_id, fresh=fresh)

    async def handle(
        self,
        decision: Callable[[UnitOfWork], Awaitable[T]],
        caller: Caller,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[T]:
        """Decide and append. Raises the decision's Refused; VersionConflict; AlreadyDone when the
        key was used before."""
        if once is not None and once.expires_at is None and self._keep_keys is not None:
            expires_at = self.now() + self._keep_keys
            once = msgspec.structs.replace(once, expires_at=expires_at)
        with tracing.span(_name_of(decision), caller.traceparent, expected=(Refused, AlreadyDone)):
            value, appended = await decide(
                self.repository, decision, caller.metadata(), once=once, refusal=Refused
            )
        return CommandResult(value, appended.position if appended else None)


def _name_of(decision: Callable[[UnitOfWork], Awaitable[object]]) -> str:
    """The span's name, after the command that the decision is a part of."""
    return f"decide {getattr(decision, '__qualname__', '').partition('.<locals>')[0]}"
