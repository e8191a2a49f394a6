"""Which sessions are over, known to every process that lets people in by access tokens.

An access token serves for some minutes without a look into the database, so a process has to learn
by itself that the session behind it has ended. It follows the log for that: whatever ends sessions
is an event. It remembers an end for as long as a token may outlive it, and a process that has just
started reads what ended within that time. One that has not heard from the log for a second looks
there before it lets anybody in.

A token may also come from a history of the log that is gone, with a person or a session that there
never were. So the first time that a process sees a session, it asks whether it is there.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Hashable
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from typing import Generic, NoReturn, TypeVar
from uuid import UUID

import msgspec
import psycopg

from commands.aggregates import USER
from commands.ports.sessions import Sessions
from domain.errors import Unauthorized
from domain.identity import (
    LoggedOut,
    RefreshReused,
    SessionsEnded,
    User,
    UserDeactivated,
    UserForgotten,
    UserReactivated,
)
from eventstore.history import HistoryChanged
from eventstore.log import LogUnavailable, Recorded
from eventstore.postgres_log import RETRY_SECONDS, PostgresLog
from eventstore.repository import Repository
from kit.cancellation import stop_if_cancelled

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

ENDS = (LoggedOut, RefreshReused, SessionsEnded, UserDeactivated, UserForgotten, UserReactivated)
"""The events by which sessions end: the first two one of them, the others all of a person's, or all
but one."""

STALE_SECONDS = 1.0
"""How old the knowledge of the log may be by which somebody is let in."""

QUIET_SECONDS = 0.4
"""After so long without a sign that the log has grown it is looked at all the same: a sign may be
lost."""

PAUSE_SECONDS = 0.05
"""Between two looks while the log grows all the time."""

WAIT_SECONDS = 1.0
"""How long a request waits for the log when what is known is stale."""

PATIENCE_SECONDS = 15.0
"""How long a look may take that nobody waits for: the first one goes through the events of a
token's lifetime."""

SKEW = timedelta(minutes=5)
"""How far the clocks of the machines that mint tokens and of the database may be apart."""

PAGE = 1000


class Opened(msgspec.Struct, frozen=True):
    """What a token says of its session: whose it is, and the epoch of the account in which it was
    opened."""

    user_id: UUID
    session_id: UUID
    epoch: int


class SessionEnds:
    """Follows the log from the first question on. `lifetime` is that of an access token."""

    def __init__(
        self, log: PostgresLog, repository: Repository, sessions: Sessions, lifetime: timedelta
    ) -> None:
        self._log = log
        self._repository = repository
        self._lifetime = lifetime
        self._opened = sessions
        self._names = [event.NAME for event in ENDS]
        self._position: int | None = None
        self._known_at = float("-inf")
        self._looking = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._sessions: _Remembered[UUID, bool] = _Remembered()
        self._people: _Remembered[UUID, User] = _Remembered()
        # sessions that were opened, and by whom
        self._there: _Remembered[UUID, UUID] = _Remembered()
        self._waiting: dict[UUID, set[asyncio.Event]] = {}
        log.history.when_it_changes(self._forget)

    async def check(self, opened: Opened) -> None:
        """Raises Unauthorized("session_ended"); LogUnavailable while nobody can tell."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._follow(), name="session-ends")
        if monotonic() - self._known_at > STALE_SECONDS:
            await self._look_in_time()
        await self._must_be_there(opened)
        self._must_last(opened)

    async def until_over(self, opened: Opened) -> NoReturn:
        """Returns never; raises Unauthorized("session_ended") when it has ended. To be called after
        `check`."""
        news = asyncio.Event()
        self._waiting.setdefault(opened.user_id, set()).add(news)
        try:
            while True:
                news.clear()
                await self._must_be_there(opened)
                self._must_last(opened)
                await news.wait()
        finally:
            waiting = self._waiting[opened.user_id]
            waiting.discard(news)
            if not waiting:
                del self._waiting[opened.user_id]

    async def reached(self, position: int | None) -> None:
        """Wait until this process knows what had ended by a position, if it is asked at all; not
        for long."""
        if position is not None and self._position is not None and self._position < position:
            with suppress(LogUnavailable, psycopg.Error):  # then it will know as soon as it can
                await self._look_in_time(position)

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _forget(self) -> None:
        """The log went back: none of its positions, people and sessions is known."""
        self._position = None
        self._known_at = float("-inf")
        self._sessions = _Remembered()
        self._people = _Remembered()
        self._there = _Remembered()
        for waiting in self._waiting.values():
            for news in waiting:
                news.set()

    async def _must_be_there(self, opened: Opened) -> None:
        if self._there.get(opened.session_id) == opened.user_id:
            return
        generation, session = (
            self._log.history.generation,
            await self._opened.find(opened.session_id),
        )
        there = session is not None and session.user_id == opened.user_id
        if not there or await self._log.versions([opened.user_id]) == [0]:
            raise Unauthorized("session_ended", "there is no such session (any more): log in again")
        if generation == self._log.history.generation:
            self._there.keep(opened.session_id, opened.user_id)

    def _must_last(self, opened: Opened) -> None:
        user = self._people.get(opened.user_id)
        outlived = user is not None and not user.keeps(opened.session_id, opened.epoch)
        if outlived or self._sessions.get(opened.session_id):
            raise Unauthorized("session_ended", "the session is over: log in again")

    # -- following the log -------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Until the log is closed; outlives lost connections."""
        while True:
            stop_if_cancelled()
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(QUIET_SECONDS):
                        await self._log.watcher.beyond(self._position or 0)
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._look(monotonic())
                await asyncio.sleep(PAUSE_SECONDS)
            except LogUnavailable:
                return
            except HistoryChanged:  # from the beginning
                continue
            except (psycopg.Error, TimeoutError) as error:
                logger.warning("cannot see which sessions end: %s", error or type(error).__name__)
                await asyncio.sleep(RETRY_SECONDS)

    async def _look_in_time(self, position: int = 0) -> None:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._look(monotonic() - STALE_SECONDS, position)
        except (TimeoutError, HistoryChanged):
            raise LogUnavailable("whether a session is over cannot be seen at the moment") from None

    async def _look(self, since: float, position: int = 0) -> None:
        """Read what has ended, unless somebody did after that moment, and as far as that
        position."""
        async with self._looking:
            generation = self._log.history.generation
            if self._known_at > since and (self._position or 0) >= position:
                return
            looked_at, head = monotonic(), await self._log.head()
            self._log.history.must_be(generation)
            if self._position is None:
                begin = await self._log.recorded_before(self._lifetime + SKEW)
                self._log.history.must_be(generation)
                self._position = begin
            while self._position < head:
                page, end = await self._log.read_page(
                    self._position, head, names=self._names, limit=PAGE
                )
                for recorded in await self._log.decode(page):
                    await self._note(recorded)
                self._log.history.must_be(generation)
                self._position = end
            self._known_at = looked_at
            oldest = looked_at - (self._lifetime + SKEW).total_seconds()
            self._sessions.forget(oldest)
            self._people.forget(oldest)
            self._there.forget(oldest)

    async def _note(self, recorded: Recorded) -> None:
        event, user_id = recorded.event, recorded.env.stream_id
        if isinstance(event, LoggedOut | RefreshReused):
            self._sessions.keep(event.session_id, True)
        else:
            user = await self._repository.get(USER, user_id)
            self._people.keep(user_id, user)
        for news in self._waiting.get(user_id, ()):
            news.set()


class _Remembered(Generic[K, V]):
    """What was noted lately, and when; the oldest first."""

    def __init__(self) -> None:
        self._noted: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def keep(self, key: K, value: V) -> None:
        self._noted[key] = (value, monotonic())
        self._noted.move_to_end(key)

    def get(self, key: K) -> V | None:
        noted = self._noted.get(key)
        return None if noted is None else noted[0]

    def forget(self, oldest: float) -> None:
        """Drop what was noted before a moment."""
        while self._noted and next(iter(self._noted.values()))[1] < oldest:
            self._noted.popitem(last=False)
