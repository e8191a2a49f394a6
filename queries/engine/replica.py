"""Standbys that answer queries in place of the primary, as long as that makes no answer wrong.

A standby shows what the primary showed some milliseconds ago; or seconds ago, or for ever the same,
when its replay is behind or has stopped; or, after a fail-over, events that the log has lost. Its
own word does not count: the process knows from the primary what an answer has to reflect. Each
statement finds out in its own snapshot whether it does, and otherwise the primary is asked:

- the server is a standby, and has replayed what the primary had written a moment ago, so that no
  answer is older than a second;
- it has the primary's latest epoch, and an event, by its id, that the primary has at the same
  position: so it has the same history;
- the read models have the caller's own writes, up to the end of the log on the primary, and the
  position that the caller asked for.

A process looks at both sides a few times a second. While a standby is away, behind or of another
history, the primary answers at once.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from time import monotonic
from traceback import format_exc
from typing import TypeVar

import msgspec
import psycopg
from psycopg_pool import AsyncConnectionPool

from eventstore.database.postgres import open_pool
from eventstore.database.watch import DatabaseWatch, watching
from eventstore.history import HistoryChanged, Mark
from eventstore.postgres_log import PostgresLog
from kit.background import background_task
from kit.cancellation import cancel_until_ended, stop_if_cancelled
from kit.seldom import Seldom
from queries.engine.own_writes import NOWHERE, ReadYourWrites
from queries.engine.positions import PositionWaiter, ReadModelBehind
from queries.engine.read_models import readable_here
from queries.engine.tables import Shown, Tables

logger = logging.getLogger(__name__)

S = TypeVar("S", bound=msgspec.Struct)

PAUSE_SECONDS = 0.3
"""The pause between two looks at the primary and at a standby."""

SAMPLES = 3
"""How many looks at the primary are remembered."""

LOOK_SECONDS = 0.5
"""How long a look may take."""

STALE_SECONDS = 2.0
"""How old a look at the primary may be for a standby to be used."""

_CONDITIONS = """
    pg_is_in_recovery() AS is_standby,
    pg_last_wal_replay_lsn() >= %(_wal)s::pg_lsn AS is_fresh,
    (SELECT id FROM log.epochs ORDER BY number DESC LIMIT 1) = %(_epoch)s AND (
        %(_mark)s = 0 OR EXISTS (
            SELECT FROM log.events WHERE position = %(_mark)s AND event_id = %(_mark_id)s
        )
    ) AS has_history
"""
_FITS = f"""(
    SELECT coalesce(is_standby AND is_fresh AND has_history, false)
    FROM (SELECT {_CONDITIONS}) AS conditions
)"""
"""SQL: whether a server may answer."""

_LOOK = f"SELECT {_CONDITIONS}"

_SAMPLE = """
SELECT pg_current_wal_flush_lsn()::text, (SELECT id FROM log.epochs ORDER BY number DESC LIMIT 1)
"""

PATIENCE_SECONDS = 0.5
"""How long a query waits for a connection to a standby before the primary is asked."""

_EVENT = "SELECT event_id FROM log.events WHERE position = %s"


class Unfit(Exception):
    """A standby cannot answer. The message says why."""


class Sample(msgspec.Struct, frozen=True):
    """What the primary had at a moment: how far its write-ahead log was flushed, the latest epoch,
    and an event."""

    at: float
    """Monotonic time."""
    wal: str
    epoch: str
    mark: Mark

    def values(self, *others: Mark) -> dict[str, object]:
        """The values of _CONDITIONS, for a server that has the latest of these events as well."""
        mark = max((self.mark, *others), key=_position)
        return {
            "_wal": self.wal,
            "_epoch": self.epoch,
            "_mark": mark.position,
            "_mark_id": mark.event_id,
        }


_NONE = Sample(float("-inf"), "0/0", "", NOWHERE)


class Replica:
    """The standbys of one URL, for one process. Used from one event loop only."""

    def __init__(self, log: PostgresLog, pool: AsyncConnectionPool, watch: DatabaseWatch) -> None:
        """`log` is the primary's; `pool` leads to the standbys, and `watch` knows whether they are
        up."""
        self._log = log
        self._pool = pool
        self._watch = watch
        self._tables = Tables(pool, PositionWaiter(pool, readable_here()))
        self._samples = (_NONE,) * SAMPLES
        """The last ones. The earliest is what answers have to reflect: a standby needs a moment to
        replay."""
        self._unfit = "it was not compared with the primary yet"
        self.answered = self.passed_on = 0
        """How many queries a standby has answered, and how many were left to the primary."""
        self._notices = Seldom(logger)
        log.history.when_it_changes(self._forget)

    @property
    def unfit(self) -> str:
        """Why the standbys are not used; empty while they are."""
        if self._watch.away:
            return "it does not answer"
        if monotonic() - self._samples[0].at > STALE_SECONDS:
            return self._unfit or "it was not compared with the primary lately"
        return self._unfit

    async def check(self) -> None:
        """Raises Unfit while the standbys are not used."""
        if unfit := self.unfit:
            raise Unfit(unfit)

    async def rows(
        self,
        row: type[S],
        query: str,
        names: tuple[str, ...],
        values: Mapping[str, object],
        own: ReadYourWrites | None,
        at_least: int,
    ) -> Shown[S] | None:
        """The rows of a query as a standby shows them; None when the primary has to answer."""
        shown = None
        if not self.unfit:
            shown = await self._rows(row, query, names, values, own, at_least)
        if shown is None:
            self.passed_on += 1
        else:
            self.answered += 1
        return shown

    async def _rows(
        self,
        row: type[S],
        query: str,
        names: tuple[str, ...],
        values: Mapping[str, object],
        own: ReadYourWrites | None,
        at_least: int,
    ) -> Shown[S] | None:
        sample = self._samples[0]
        wanted, last = ({}, NOWHERE) if own is None else await own.wanted(names)
        asked = await self._event_at(at_least)
        if asked is None:
            return None
        needed = {**values, **sample.values(last, asked)}
        try:
            with self._watch.while_there():
                shown = await self._tables.rows(row, query, names, needed, _FITS)
        except psycopg.errors.QueryCanceled:  # the primary would take as long
            raise
        except (psycopg.Error, ReadModelBehind) as error:
            self._notices.warning("query", f"the primary answers, as a standby failed: {error!r}")
            return None
        has_all = all(
            position >= max(at_least, wanted.get(name, 0))
            for name, position in shown.positions.items()
        )
        return shown if shown.beside and has_all else None

    async def _event_at(self, position: int) -> Mark | None:
        """The primary's event at a position; None when it has none."""
        if not position:
            return NOWHERE
        async with self._log.pool.connection() as conn:
            row = await (await conn.execute(_EVENT, (position,))).fetchone()
        return None if row is None else Mark(position, row[0])

    def _forget(self) -> None:
        """Use no standby until it has been compared with the log's new history."""
        self._samples = (_NONE,) * SAMPLES
        self._unfit = "the log has another history"

    # -- looking -----------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Look at the primary and at a standby, until cancelled."""
        while True:
            stop_if_cancelled()
            generation = self._log.history.generation
            try:
                await self._look()
                unfit = ""
            except Unfit as error:
                unfit = str(error)
            except (psycopg.Error, TimeoutError) as error:
                unfit = f"it does not answer: {error or type(error).__name__}"
            except Exception:
                unfit = "it cannot be looked at"
                self._notices.warning("look", f"the look at a standby failed: {format_exc()}")
            if generation == self._log.history.generation:
                self._note(unfit)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _look(self) -> None:
        """Raises Unfit, psycopg.Error, TimeoutError."""
        self._samples = (*self._samples[1:], await self._sample())
        sample = self._samples[0]
        if sample is _NONE:
            raise Unfit("it was not compared with the primary yet")
        async with asyncio.timeout(LOOK_SECONDS), self._pool.connection() as conn:
            found = await (await conn.execute(_LOOK, sample.values())).fetchone()
        is_standby, is_fresh, has_history = found or (False, False, False)
        if not is_standby:
            await self._pool.drain()  # new connections may lead to another one
            raise Unfit("it is no standby")
        if not is_fresh:
            raise Unfit("it is behind")
        if not has_history:
            raise Unfit("it has another history than the log")

    async def _sample(self) -> Sample:
        history, at = self._log.history, monotonic()
        generation = history.generation
        try:
            with self._log.while_there():
                async with self._log.pool.connection() as conn:
                    found = await (await conn.execute(_SAMPLE)).fetchone()
                    await history.head(conn)
                history.must_be(generation)
        except (psycopg.Error, HistoryChanged) as error:
            raise Unfit(f"the primary cannot be compared with it: {error}") from error
        wal, epoch = found or ("", "")
        return Sample(at, wal, epoch, history.mark)

    def _note(self, unfit: str) -> None:
        """Log when standbys cease to be used, and when they are used again."""
        if unfit != self._unfit and unfit:
            self._notices.warning("unfit", f"the primary answers all queries, no standby: {unfit}")
        elif self._unfit and not unfit:
            self._notices.warning("fit", "a standby answers queries")
        self._unfit = unfit


@asynccontextmanager
async def open_replica(log: PostgresLog, url: str, pool_size: int) -> AsyncIterator[Replica]:
    """The standbys at `url`, for a process that has opened this log. None of them has to be up."""
    async with (
        watching(url, "the standby", writable=False) as watch,
        open_pool(
            url, pool_size, watch=watch, sessions="prefer-standby", patience=PATIENCE_SECONDS
        ) as pool,
    ):
        replica = Replica(log, pool, watch)
        following = background_task(replica.follow(), "replica")
        try:
            yield replica
        finally:
            await cancel_until_ended([following])


def _position(mark: Mark) -> int:
    return mark.position
