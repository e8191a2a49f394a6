"""What stands before a dependency that may be away: a circuit breaker."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.messages.base import Event
from purgatory.domain.messages.events import ContextChanged
from purgatory.domain.model import OpenedState

log = logging.getLogger(__name__)

FAILURES_TO_OPEN, OPEN_SECONDS = 3, 5.0


class CircuitOpen(Exception):
    """The dependency was away a moment ago, and is left alone for now."""


class Circuit:
    """After a few failures in a row the dependency is left alone for a moment, and who asks is told so at once.

    Then one call is the trial of whether it is back; until that one knows, all others are still told at once. To be
    shared by all who ask the same server.
    """

    def __init__(self, name: str, is_down: Callable[[BaseException], bool]) -> None:
        """`is_down` tells which exceptions show that the dependency is away. A call that was given up does, too."""
        self._name, self._is_down = name, is_down
        self._breakers = AsyncCircuitBreakerFactory(
            default_threshold=FAILURES_TO_OPEN,
            default_ttl=OPEN_SECONDS,
            exclude=[(BaseException, lambda error: not self._shows_outage(error))],
        )
        self._breakers.add_listener(self._take_note)
        self._away = self._on_trial = False

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """Around a call. Raises CircuitOpen instead of making it while the dependency is left alone."""
        trial = self._away
        if trial and self._on_trial:
            raise CircuitOpen(f"{self._name} is being tried")
        breaker = await self._breakers.get_breaker(self._name)
        self._on_trial = trial
        try:
            async with breaker:
                yield
        except OpenedState as error:
            raise CircuitOpen(f"{self._name} is left alone for a moment") from error
        finally:
            if trial:
                self._on_trial = False

    def _shows_outage(self, error: BaseException) -> bool:
        return isinstance(error, asyncio.CancelledError) or self._is_down(error)

    def _take_note(self, name: str, _: str, event: Event) -> None:
        if not isinstance(event, ContextChanged):
            return
        if event.state == "opened" and not self._away:
            self._away = True
            log.warning("%s is away: left alone, and tried every %s seconds", name, OPEN_SECONDS)
        elif event.state == "closed" and self._away:
            self._away = False
            log.warning("%s is back", name)
