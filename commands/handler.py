"""Carrying out commands: who asks, deciding with retries, and the position that the answer
carries."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

import msgspec

from commands.caller import Caller
from domain.errors import Refused
from eventstore.aggregate import Aggregate
from eventstore.decide import decide
from eventstore.log import IdempotencyKey, Log
from eventstore.repository import Repository
from eventstore.unit_of_work import UnitOfWork
from kit.clock import Clock

S = TypeVar("S")
T = TypeVar("T")


class CommandResult(msgspec.Struct, Generic[T], frozen=True):
    """What a command made, and the log position that holds it (None when there was nothing to
    do)."""

    value: T
    position: int | None


class CommandHandler:
    """Carries out decisions on aggregates."""

    def __init__(self, repository: Repository, clock: Clock) -> None:
        self.repository = repository
        self.clock = clock

    @property
    def log(self) -> Log:
        """The log, for reading."""
        return self.repository.log

    def now(self) -> datetime:
        """The time by which things are decided."""
        return self.clock.now()

    async def state(self, aggregate: Aggregate[S], stream_id: UUID) -> S | None:
        """The state as it is now in the log; None when the stream does not exist."""
        return await self.repository.state(aggregate, stream_id)

    async def cached(self, aggregate: Aggregate[S], stream_id: UUID) -> S | None:
        """The state as last seen by this process: enough for what never changes."""
        return await self.repository.cached(aggregate, stream_id)

    async def get(self, aggregate: Aggregate[S], stream_id: UUID, *, fresh: bool = True) -> S:
        """As `state` or, without `fresh`, as `cached`, of a stream that has to exist. Raises
        NotFound."""
        return await self.repository.get(aggregate, stream_id, fresh=fresh)

    async def handle(
        self,
        decision: Callable[[UnitOfWork], Awaitable[T]],
        caller: Caller,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[T]:
        """Decide and append. Raises Refused as decided, VersionConflict, AlreadyDone (the key is
        known)."""
        value, appended = await decide(
            self.repository, decision, caller.metadata(), once=once, refusal=Refused
        )
        return CommandResult(value, appended.position if appended else None)
