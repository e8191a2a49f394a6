"""Ended sessions, as every process must know them that accepts access tokens.

An access token is valid for some minutes without a database query, so a process has to learn by
itself that the token's session has ended. It follows the log, as whatever ends sessions is an
event. It remembers an end for as long as tokens may outlive it; a process that starts reads the
events of that time. If its knowledge is older than a second, it reads the log before it accepts a
token.

A token may also come from a history of the log that is gone, with a person or a session that do not
exist. So a process checks each session that it sees for the first time.
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
from kit.background import background_task
from kit.cancellation import stop_if_cancelled
from kit.deadlines import answered_within

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

ENDS = (LoggedOut, RefreshReused, SessionsEnded, UserDeactivated, UserForgotten, UserReactivated)
"""The events that end sessions: the first two end one, the others all of a person's, or all but
one."""

STALE_SECONDS = 1.0
"""How old the knowledge of the log may be when a token is accepted."""

QUIET_SECONDS = 0.4
"""How long to wait for a sign that the log has grown before it is read anyway: a sign may be
lost."""

PAUSE_SECONDS = 0.2
"""The pause between reads while the log grows."""

WAIT_SECONDS = 5.0
"""How long a request waits for the log when the knowledge is stale: as long as for a connection of
the pool. The watch over the database ends the request earlier when that is down, and knows better
than a clock: on a busy machine, the look may take seconds."""

READ_TIMEOUT_SECONDS = 15.0
"""How long a background read may take: the first one reads the events of a token's lifetime."""

SKEW = timedelta(minutes=5)
"""How far the clocks of the gateways and of the database may differ."""

PAGE = 1000


class Opened(msgspec.Struct, frozen=True):
    """What a token says about its session: its user, and the account's session epoch at the
    login."""

    user_id: UUID
    session_id: UUID
    epoch: int


class SessionEnds:
    """Follows the log from the first check on. `lifetime` is that of an access token."""

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
        # existing sessions, and their users
        self._there: _Remembered[UUID, UUID] = _Remembered()
        self._waiting: dict[UUID, set[asyncio.Event]] = {}
        log.history.when_it_changes(self._forget)

    async def check(self, opened: Opened) -> None:
        """Raises Unauthorized("session_ended"); LogUnavailable while the log cannot be read."""
        if self._task is None or self._task.done():
            self._task = background_task(self._follow(), "session-ends")
        if monotonic() - self._known_at > STALE_SECONDS:
            await self._look_in_time()
        await self._must_be_there(opened)
        self._must_last(opened)

    async def until_over(self, opened: Opened) -> NoReturn:
        """Wait for the session's end; never returns. Call `check` first. Raises
        Unauthorized("session_ended") when it has ended."""
        changed = asyncio.Event()
        self._waiting.setdefault(opened.user_id, set()).add(changed)
        try:
            while True:
                changed.clear()
                await self._must_be_there(opened)
                self._must_last(opened)
                await changed.wait()
        finally:
            waiting = self._waiting[opened.user_id]
            waiting.discard(changed)
            if not waiting:
                del self._waiting[opened.user_id]

    async def reached(self, position: int | None) -> None:
        """Wait briefly until this process knows which sessions had ended by a position. No-op
        unless it follows the log."""
        if position is not None and self._position is not None and self._position < position:
            with suppress(LogUnavailable, psycopg.Error):  # it will catch up later
                await self._look_in_time(position)

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _forget(self) -> None:
        """Forget everything: the log went back, and positions, people and sessions may differ."""
        self._position = None
        self._known_at = float("-inf")
        self._sessions = _Remembered()
        self._people = _Remembered()
        self._there = _Remembered()
        for waiting in self._waiting.values():
            for changed in waiting:
                changed.set()

    async def _must_be_there(self, opened: Opened) -> None:
        if self._there.get(opened.session_id) == opened.user_id:
            return
        generation, session = (
            self._log.history.generation,
            await self._opened.find(opened.session_id),
        )
        there = session is not None and session.user_id == opened.user_id
        if not there or await self._log.versions([opened.user_id]) == [0]:
            raise Unauthorized("session_ended", "the session does not exist: log in again")
        if generation == self._log.history.generation:
            self._there.keep(opened.session_id, opened.user_id)

    def _must_last(self, opened: Opened) -> None:
        user = self._people.get(opened.user_id)
        outlived = user is not None and not user.keeps(opened.session_id, opened.epoch)
        if outlived or self._sessions.get(opened.session_id):
            raise Unauthorized("session_ended", "the session has ended: log in again")

    # -- following the log -------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Follow the log until it is closed, across lost connections."""
        while True:
            stop_if_cancelled()
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(QUIET_SECONDS):
                        await self._log.watcher.beyond(self._position or 0)
                async with asyncio.timeout(READ_TIMEOUT_SECONDS):
                    await self._look(monotonic())
                await asyncio.sleep(PAUSE_SECONDS)
            except LogUnavailable:
                return
            except HistoryChanged:  # read anew from the beginning
                continue
            except (psycopg.Error, TimeoutError) as error:
                logger.warning(
                    "cannot read which sessions have ended: %s", error or type(error).__name__
                )
                await asyncio.sleep(RETRY_SECONDS)

    async def _look_in_time(self, position: int = 0) -> None:
        try:
            async with answered_within(WAIT_SECONDS):
                await self._look(monotonic() - STALE_SECONDS, position)
        except (TimeoutError, HistoryChanged):
            raise LogUnavailable(
                "the log cannot be read, so it is unknown whether the session has ended"
            ) from None

    async def _look(self, since: float, position: int = 0) -> None:
        """Read the new ends of sessions, unless another task did so after `since` and up to
        `position`."""
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
        for changed in self._waiting.get(user_id, ()):
            changed.set()


class _Remembered(Generic[K, V]):
    """Values with the time when they were kept, the oldest first."""

    def __init__(self) -> None:
        self._noted: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def keep(self, key: K, value: V) -> None:
        self._noted[key] = (value, monotonic())
        self._noted.move_to_end(key)

    def get(self, key: K) -> V | None:
        noted = self._noted.get(key)
        return None if noted is None else noted[0]

    def forget(self, oldest: float) -> None:
        """Drop what was kept before a time."""
        while self._noted and next(iter(self._noted.values()))[1] < oldest:
            self._noted.popitem(last=False)
