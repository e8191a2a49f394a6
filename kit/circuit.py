"""A circuit breaker for dependencies that may be down."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.messages.base import Event
from purgatory.domain.messages.events import ContextChanged
from purgatory.domain.model import OpenedState

from kit.cancellation import NEEDLESS
from kit.metrics import CIRCUIT_OPEN, timed_call

logger = logging.getLogger(__name__)

FAILURES_TO_OPEN, OPEN_SECONDS, TRIAL_SECONDS = 3, 5.0, 30.0


class CircuitOpen(Exception):
    """The dependency was down a moment ago, and is not called for now."""


class Call:
    """A call through a circuit."""

    asked = True
    """Whether the dependency was actually called. A caller that did not call it sets this to False:
    the call then proves nothing."""


class Circuit:
    """After a few failures in a row, calls are refused at once for `open_seconds`.

    Then one trial call goes through; until it ends, all others are still refused. After
    `trial_seconds` another trial may start, as the slowness may not be the dependency's. All
    callers of one server share one circuit.
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
        """`is_down` says which exceptions show that the dependency is down. A cancelled call counts
        as such, too, unless it is NEEDLESS."""
        self._name = name
        self._is_down = is_down
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
        CIRCUIT_OPEN.labels(name).set(0)

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[Call]:
        """Wrap a call. Raises CircuitOpen, without making the call, while the circuit is open."""
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
                    with timed_call(self._name):
                        yield call
                except asyncio.CancelledError as error:
                    call.asked = call.asked and NEEDLESS not in error.args
                    raise
                finally:
                    if not call.asked:
                        stack.pop_all()  # leave the breaker as it is
        except OpenedState as error:
            raise CircuitOpen(f"{self._name} is left alone for a moment") from error
        finally:
            if trial:
                self._tried_until = 0.0

    def show(self, *, away: bool) -> None:
        """Show in the metrics whether the dependency is away, by what is known without a call: then
        none is needed to find out that it is back."""
        CIRCUIT_OPEN.labels(self._name).set(away or self._away)

    def _shows_outage(self, error: BaseException) -> bool:
        return isinstance(error, asyncio.CancelledError) or self._is_down(error)

    def _take_note(self, name: str, _: str, event: Event) -> None:
        if not isinstance(event, ContextChanged):
            return
        if event.state == "opened" and not self._away:
            self._away = True
            CIRCUIT_OPEN.labels(name).set(1)
            logger.warning(
                "%s is away: left alone, and tried every %s seconds", name, self._open_seconds
            )
        elif event.state == "closed" and self._away:
            self._away = False
            CIRCUIT_OPEN.labels(name).set(0)
            logger.warning("%s is back", name)
