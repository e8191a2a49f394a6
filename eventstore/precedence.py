"""Precedence at streams, so that no process keeps another one from them.

Decisions rest on appends in flight (`eventstore.flight`): the process that is ahead at a stream
wins again and again, while each loss costs another one several round trips. Who keeps losing asks
all processes to give way at the stream for a moment. They hear of it by a notification, most often
together with the answer to an append of theirs.

All hear all requests in the same order, and obey the first while it lasts. So of two that ask at
once, one has precedence.
"""

import asyncio
from collections.abc import Iterable
from uuid import UUID

CHANNEL = "ludoteca_precedence"
"""The channel of the requests. The payload is the stream's id."""

LOSSES = 2
"""How often in a row a process loses at a stream before it asks."""

SECONDS = 0.1
"""How long precedence lasts. It is not given back: what it takes to change over is worth many
appends, and who has precedence may have died."""

_MANY = 1000
"""Streams about which something is remembered, before what is over is dropped."""


class Precedence:
    """What one process knows: where it keeps losing, and who has precedence. Used from one event
    loop only."""

    def __init__(self) -> None:
        self._losses: dict[UUID, int] = {}
        # until when, by the loop's clock; and whether it is this process that has it
        self._given: dict[UUID, tuple[float, bool]] = {}

    def lost(self, stream_ids: Iterable[UUID]) -> list[UUID]:
        """Another process has appended first to these streams. Returns those at which to ask for
        precedence."""
        if len(self._losses) > _MANY:
            self._losses.clear()
        asked = []
        for stream_id in set(stream_ids):
            self._losses[stream_id] = losses = self._losses.get(stream_id, 0) + 1
            if losses >= LOSSES:
                asked.append(stream_id)
        return asked

    def won(self, stream_ids: Iterable[UUID]) -> None:
        """This process has appended to these streams."""
        if self._losses:
            for stream_id in stream_ids:
                self._losses.pop(stream_id, None)

    def heard(self, payload: str, *, ours: bool) -> None:
        """A process, perhaps this one, asks for precedence."""
        try:
            stream_id = UUID(payload)
        except ValueError:
            return
        now = asyncio.get_running_loop().time()
        if len(self._given) > _MANY:
            self._given = {i: given for i, given in self._given.items() if given[0] > now}
        if self._given.get(stream_id, (0.0, False))[0] <= now:
            self._given[stream_id] = (now + SECONDS, ours)
            if not ours:  # afterwards, one loss shows that the other one goes on
                self._losses[stream_id] = LOSSES - 1

    def seconds_to_wait(self, stream_ids: Iterable[UUID]) -> float:
        """For how long this process gives way to another at one of these streams."""
        if not self._given:
            return 0.0
        now = asyncio.get_running_loop().time()
        given = [self._given[i] for i in stream_ids if i in self._given]
        return max((until - now for until, ours in given if not ours and until > now), default=0.0)
