"""Follows the log for changes of games and of their stock, so that results cached from them are
known to hold without a query.

Each look is one statement, and so one snapshot: the end of the log, what has changed since the
previous look, and the checkpoint of the read models of games and stock (unless one of their streams
is quarantined, which might be folded later, without an event). So what is read after a look
reflects at least that checkpoint, and holds until the log has a later change of the same game or
stock, or a rebuild has made their rows, or the search index, anew.

This knowledge is as old as the last look: some milliseconds while the log grows, and never more
than STALE_SECONDS.
"""

import asyncio
import logging
from collections import OrderedDict
from contextlib import suppress
from time import monotonic
from uuid import UUID

import msgspec
import psycopg

from eventstore.history import HistoryChanged
from eventstore.log import LogUnavailable
from eventstore.postgres_log import RETRY_SECONDS, PostgresLog
from kit.background import background_task
from kit.cancellation import stop_if_cancelled
from queries.catalog.game_changes import MAX_SCANNED_POSITIONS
from queries.engine.positions import ReadModelBehind
from queries.engine.read_models import ReadModels

logger = logging.getLogger(__name__)

STALE_SECONDS = 1.0
"""The maximal age of a look on which answers are based."""

QUIET_SECONDS = 0.25
"""How long after the last notification the next look is taken all the same: a notification may be
lost, and the read model may have advanced."""

PAUSE_SECONDS = 0.05
"""The pause between two looks while the log grows."""

IDLE_SECONDS = 60.0
"""How long after the last use the log is no longer followed, until the next use."""

MAX_CHANGED_STREAMS = 10_000

_LOOK = """
SELECT head.position AS head,
    EXISTS (
        SELECT 1 FROM consumers.quarantine q JOIN consumers.feeds f USING (feed)
        WHERE f.projection IN ('games', 'games_text', 'stock')
    ) AS quarantined,
    (
        SELECT coalesce(json_agg(f.storage ORDER BY f.feed), '[]') FROM consumers.feeds f
        WHERE f.active AND f.projection IN ('games', 'games_text', 'stock')
    ) AS storages,
    (
        SELECT coalesce(
            json_agg(
                json_build_array(e.stream_id, e.position, e.name LIKE 'game.%%')
                ORDER BY e.position
            ), '[]'
        )
        FROM log.events e
        WHERE e.position > %(after)s AND e.position <= least(head.position, %(upto)s)
            AND (e.name LIKE 'game.%%' OR e.name LIKE 'inventory.%%')
    ) AS changes
FROM (
    SELECT coalesce(max(position), 0) AS position FROM log.events
    WHERE (SELECT count(*) FROM (SELECT 1 FROM @games LIMIT 1) AS any_game) >= 0
        AND (SELECT count(*) FROM (SELECT 1 FROM @stock LIMIT 1) AS any_stock) >= 0
) AS head
"""


class _Look(msgspec.Struct, frozen=True):
    head: int
    quarantined: bool
    storages: list[str]
    changes: list[tuple[UUID, int, bool]]
    """Streams, positions, and whether they are of games."""


class Since(msgspec.Struct, frozen=True):
    """The position and the generation of what is read now. A new generation begins when the log
    goes back, or a rebuild replaces rows."""

    position: int
    generation: int


class GameTail:
    """Follows the log from the first use on."""

    def __init__(self, log: PostgresLog, models: ReadModels) -> None:
        self._log = log
        self._models = models
        self._task: asyncio.Task[None] | None = None
        self._asked_at = self._known_at = float("-inf")
        self._generation = 0
        self._position = 0
        self._settled: int | None = None
        self._changed: OrderedDict[UUID, int] = OrderedDict()
        """The last changes, by stream; those before `_complete_from` may be missing."""
        self._complete_from = 0
        self._last_game = 0
        self._storages: list[str] = []
        """Where the rows of games, stock and search index are."""
        log.history.when_it_changes(self._forget)

    def position(self) -> int | None:
        """The position up to which all changes are known; None when the last look is too
        old."""
        self._asked_at = monotonic()
        if self._task is None or self._task.done():
            self._task = background_task(self._follow(), "game-tail")
        return self._position if self._asked_at - self._known_at < STALE_SECONDS else None

    def settled(self) -> Since | None:
        """From where on games and stock that are read after this call hold; None while that is not
        known, or a stream is quarantined."""
        if self._settled is None or self.position() is None:
            return None
        return Since(self._settled, self._generation)

    def is_unchanged(self, since: Since, stream_id: UUID | None) -> bool:
        """Whether the game or stock (None: every game) has not changed since then, as far as is
        known."""
        if since.generation != self._generation:
            return False
        if stream_id is None:
            return self._last_game <= since.position
        known = since.position >= self._complete_from
        return known and self._changed.get(stream_id, 0) <= since.position

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _forget(self) -> None:
        """Forget everything when the log went back."""
        self._generation += 1
        self._known_at = float("-inf")
        self._settled = None
        self._changed.clear()
        self._position = self._complete_from = self._last_game = 0

    # -- following the log -------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Follow the log until IDLE_SECONDS without use, or until it is closed; survives lost
        connections."""
        while monotonic() - self._asked_at < IDLE_SECONDS:
            stop_if_cancelled()
            try:
                await self._look()
                await asyncio.sleep(PAUSE_SECONDS)
                with suppress(TimeoutError):
                    async with asyncio.timeout(QUIET_SECONDS):
                        await self._log.watcher.beyond(self._position)
            except LogUnavailable:
                return
            except HistoryChanged:
                continue
            except (psycopg.Error, ReadModelBehind, TimeoutError) as error:
                logger.warning("cannot see which games change: %s", error or type(error).__name__)
                await asyncio.sleep(RETRY_SECONDS)

    async def _look(self) -> None:
        looked_at, generation, after = monotonic(), self._generation, self._position
        upto = after + MAX_SCANNED_POSITIONS
        found = await self._models.rows(_Look, _LOOK, after=after, upto=upto)
        if generation != self._generation:
            return
        look = found.value[0]
        if look.storages != self._storages:
            self._storages = look.storages
            self._generation += 1
        if look.head > upto:  # too many to look through: all may have changed
            self._changed.clear()
            self._complete_from = self._last_game = look.head
        for stream_id, position, is_game in look.changes if look.head <= upto else ():
            self._note(stream_id, position)
            if is_game:
                self._last_game = position
        self._position = look.head
        self._settled = None if look.quarantined else found.position
        self._known_at = looked_at

    def _note(self, stream_id: UUID, position: int) -> None:
        self._changed[stream_id] = position
        self._changed.move_to_end(stream_id)
        if len(self._changed) > MAX_CHANGED_STREAMS:
            self._complete_from = self._changed.popitem(last=False)[1]
