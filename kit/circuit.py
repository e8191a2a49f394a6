"""What stands before a dependency that may be away: a circuit breaker."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.messages.base import Event
from purgatory.domain.messages.events import ContextChanged
from purgatory.domain.model import OpenedState

log = logging.getLogger(__name__)

FAILURES_TO_OPEN, OPEN_SECONDS, TRIAL_SECONDS = 3, 5.0, 30.0


class CircuitOpen(Exception):
    """The dependency was away a moment ago, and is left alone for now."""


class Call:
    """A call through a circuit."""

    asked = True
    """Whether the dependency was asked at all. Who finds that it was not says so: then the call shows nothing."""


class Circuit:
    """After a few failures in a row the dependency is left alone for a moment, and who asks is told so at once.

    Then one call is the trial of whether it is back; until that one knows, all others are still told at once. When it
    takes long, another may try: it may not be the dependency that is slow. To be shared by all who ask the same server.
    """

    def __init__(
        self,
        name: str,
        is_down: Callable[[BaseException], bool],
        *,
        failures_to_open: int | None = None,
        open_seconds: float | None = None,
        trial_seconds: float = TRIAL_SECONDS,
    ) -> None:
        """`is_down` tells which exceptions show that the dependency is away. A call that was given up does, too."""
        self._name, self._is_down = name, is_down
        self._open_seconds = OPEN_SECONDS if open_seconds is None else open_seconds
        self._trial_seconds = trial_seconds
        self._breakers = AsyncCircuitBreakerFactory(
            default_threshold=failures_to_open or FAILURES_TO_OPEN,
            default_ttl=self._open_seconds,
            exclude=[(BaseException, lambda error: not self._shows_outage(error))],
        )
        self._breakers.add_listener(self._take_note)
        self._away = False
        self._tried_until = 0.0

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[Call]:
        """Around a call. Raises CircuitOpen instead of making it while the dependency is left alone."""
        trial, now = self._away, time.monotonic()
        if trial and now < self._tried_until:
            raise CircuitOpen(f"{self._name} is being tried")
        breaker = await self._breakers.get_breaker(self._name)
        if trial:
            self._tried_until = now + self._trial_seconds
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(breaker)
                call = Call()
                try:
                    yield call
                finally:
                    if not call.asked:
                        stack.pop_all()  # leave the breaker as it is
        except OpenedState as error:
            raise CircuitOpen(f"{self._name} is left alone for a moment") from error
        finally:
            if trial:
                self._tried_until = 0.0

    def _shows_outage(self, error: BaseException) -> bool:
        return isinstance(error, asyncio.CancelledError) or self._is_down(error)

    def _take_note(self, name: str, _: str, event: Event) -> None:
        if not isinstance(event, ContextChanged):
            return
        if event.state == "opened" and not self._away:
            self._away = True
            log.warning("%s is away: left alone, and tried every %s seconds", name, self._open_seconds)
        elif event.state == "closed" and self._away:
            self._away = False
            log.warning("%s is back", name)
