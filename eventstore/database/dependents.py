"""The tasks of a process that need the database, to be cancelled as soon as it is down."""

import asyncio
from types import TracebackType
from typing import Any, Self

from eventstore.database.connections import DatabaseAway
from kit.cancellation import NEEDLESS


class Dependents:
    """The tasks that need the database, each within a `WhileThere`. Used from one event loop
    only."""

    def __init__(self) -> None:
        self.away = False
        """Whether the database is down: then entering a `WhileThere` fails."""
        self.scopes: dict[asyncio.Task[Any], WhileThere] = {}

    def cancel(self) -> None:
        """Cancel all tasks that need the database."""
        for scope in list(self.scopes.values()):
            scope.end()


class WhileThere:
    """Cancels the task that entered it when the database goes down."""

    __slots__ = ("_before", "_dependents", "_ended", "_task")

    def __init__(self, dependents: Dependents) -> None:
        self._dependents = dependents
        self._ended = False
        self._task: asyncio.Task[Any] | None = None

    def __enter__(self) -> Self:
        dependents = self._dependents
        if dependents.away:
            raise DatabaseAway
        task = asyncio.current_task()
        assert task is not None
        if task not in dependents.scopes:  # otherwise the outer one cancels it
            dependents.scopes[task] = self
            self._task = task
            self._before = task.cancelling()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        task = self._task
        self.leave()
        if (
            self._ended
            and task is not None
            and task.uncancel() <= self._before
            and kind is asyncio.CancelledError
        ):
            raise DatabaseAway from error

    def leave(self) -> None:
        """Stop needing the database: what follows is not cancelled."""
        if self._task is not None:
            self._dependents.scopes.pop(self._task, None)

    def end(self) -> None:
        """Cancel the task, once."""
        if self._task is not None and not self._ended:
            self._ended = True
            self._task.cancel(NEEDLESS)  # whatever else it waits for may be well
