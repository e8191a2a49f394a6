"""Answers about games that a process keeps as bytes: the same request gets the same answer without
a query, until a game or stock in it changes, or a rebuild replaces the rows.

Only answers to requests without a token are kept: others depend on the caller, and have to reflect
the caller's own writes. `Min-Position` is respected; `Event-Position` is the position up to which
the process knows that nothing has changed.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from api.answers import Content, respond
from kit.clock import Clock
from kit.metrics import count_lookup
from queries.catalog.game_tail import GameTail, Since
from queries.engine.read_models import ReadModels

MAX_BYTES = 32 * 2**20
"""The approximate limit of the memory for kept answers."""

_OVERHEAD_BYTES = 1_000
"""The memory of an answer besides its body."""

Make = Callable[[ReadModels], Awaitable[tuple[Content, int]]]
"""Makes an answer's content from read models, with the position that it reflects."""


class _Url(NamedTuple):
    path: str
    query: bytes


class _Kept(msgspec.Struct, frozen=True):
    content: Content
    position: int
    since: Since
    game_id: UUID | None


class KeptAnswers:
    """The latest answers."""

    def __init__(self, tail: GameTail, clock: Clock) -> None:
        self._tail = tail
        self._clock = clock
        self._kept: OrderedDict[_Url, _Kept] = OrderedDict()
        self._bytes = 0

    async def answer(
        self, request: Request, reads: ReadModels, make: Make, *, game_id: UUID | None = None
    ) -> Response:
        """The kept answer, or else a new one. It is about all games, or one of this id.

        What is to be kept is made from the primary, whose changes are followed: a standby may lack
        a change that no position tells of, as a rebuild's.
        """
        if "authorization" in request.headers:
            content, position = await make(reads)
            return respond(request, content, position)
        url = _Url(request.scope["path"], request.scope["query_string"])
        found = self._find(url, reads.at_least)
        count_lookup("answers", hit=found is not None)
        if found is not None:
            return respond(request, *found)
        since = self._tail.settled()
        content, position = await make(reads if since is None else reads.from_primary())
        if since is not None and position >= since.position:
            self._keep(url, _Kept(content, position, since, game_id))
        return respond(request, content, position)

    def _find(self, url: _Url, at_least: int) -> tuple[Content, int] | None:
        known_upto, kept = self._tail.position(), self._kept.get(url)
        if kept is None:
            return None
        if not self._is_right(kept):
            self._drop(url)
            return None
        if known_upto is None:
            return None
        position = max(known_upto, kept.position)
        if position < at_least:
            return None
        self._kept.move_to_end(url)
        return kept.content, position

    def _is_right(self, kept: _Kept) -> bool:
        tail, content, since = self._tail, kept.content, kept.since
        return (
            (content.until is None or self._clock.now() < content.until)
            and tail.is_unchanged(since, kept.game_id)
            and all(tail.is_unchanged(since, stock_id) for stock_id in content.stocks)
        )

    def _keep(self, url: _Url, kept: _Kept) -> None:
        self._drop(url)
        self._kept[url] = kept
        self._bytes += _weight(url, kept)
        while self._bytes > MAX_BYTES:
            self._drop(next(iter(self._kept)))

    def _drop(self, url: _Url) -> None:
        kept = self._kept.pop(url, None)
        if kept is not None:
            self._bytes -= _weight(url, kept)


def _weight(url: _Url, kept: _Kept) -> int:
    return len(kept.content.body) + 2 * len(url.query) + _OVERHEAD_BYTES
