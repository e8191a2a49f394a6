"""Appends in flight: later decisions may rest on the states that they will leave.

Such a decision is appended only after those that it rests on, or in one statement with them. When
one of them fails, so does the append of the decision, which is then made anew.
"""

import asyncio
from collections.abc import Callable, Sequence


class Flight:
    """An append on its way to the log. Used from one event loop only."""

    __slots__ = ("_ended", "_on_departure", "error", "has_departed", "landed", "rests_on")

    def __init__(
        self,
        rests_on: Sequence["Flight"] = (),
        *,
        on_departure: Callable[[], None] | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        """`rests_on`: the appends that were in flight when this one was decided on the states that
        they will leave. The callbacks must not fail."""
        self.rests_on = rests_on
        """Empty once the outcome is known."""
        self.has_departed = False
        self.landed: bool | None = None
        """Whether it is in the log; None: not known yet."""
        self.error: Exception | None = None
        """Why it failed, if that is known."""
        self._on_departure = on_departure
        self._ended = [] if on_end is None else [on_end]

    def depart(self) -> None:
        """The log takes over the append: from now on, it is the log that calls `land` or `fail`."""
        self.has_departed = True
        departure, self._on_departure = self._on_departure, None
        if departure is not None:
            departure()

    def land(self) -> None:
        """It is in the log. No-op after an earlier outcome."""
        self._end(landed=True)

    def fail(self, error: Exception | None = None) -> None:
        """It is not in the log, or nobody knows: nothing may rest on it. No-op after an earlier
        outcome."""
        if self.landed is None:
            self.error = error
        self._end(landed=False)

    def when_over(self, call: Callable[[], None]) -> None:
        """Call this as soon as the outcome is known. It must not fail."""
        if self.landed is None:
            self._ended.append(call)
        else:
            call()

    async def outcome(self) -> bool:
        """Wait until it has landed or failed. Returns whether it landed."""
        over = asyncio.Event()
        self.when_over(over.set)
        await over.wait()
        return self.landed is True

    def _end(self, *, landed: bool) -> None:
        if self.landed is None:
            self.landed = landed
            calls, self._ended = self._ended, []
            # otherwise each would keep all before it in memory
            self.rests_on = ()
            self._on_departure = None
            for call in calls:
                call()
