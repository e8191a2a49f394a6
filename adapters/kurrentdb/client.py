"""Calls to KurrentDB, each of which ends: within seconds, and in one of few ways."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Self, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import grpc
from kurrentdbclient import (
    AsyncKurrentDBClient,
    NewEvent,
    NewEvents,
    NewRecord,
    RecordedEvent,
    StreamState,
    StreamStateCheck,
)
from kurrentdbclient.exceptions import (
    ConsistencyChecksFailedError,
    DeadlineExceededError,
    KurrentDBClientError,
    MaximumAppendSizeExceededError,
    NotFoundError,
    ProgrammingError,
    RecordMaxSizeExceededError,
    StreamIsDeletedError,
    StreamTombstonedError,
    TransactionMaxSizeExceededError,
    WrongCurrentVersionError,
)

from eventstore.log import LogUnavailable, TooLarge
from kit.background import background_task
from kit.seldom import Seldom

_seldom = Seldom(logging.getLogger(__name__))

Result = TypeVar("Result")

CALL_SECONDS = 2.0
"""The most time for a call, with the client's own second try and a search for the leader."""

BYTES_A_SECOND = 4 << 20
"""A large append has more time: a second for so much."""

_DEFAULTS = {"GossipTimeout": "1", "MaxDiscoverAttempts": "2", "KeepAliveInterval": "10000"}
"""Options of the client's, unless the URL has them: its own waits are far longer than ours."""

_TOO_LARGE = (
    MaximumAppendSizeExceededError,
    RecordMaxSizeExceededError,
    TransactionMaxSizeExceededError,
)
_PROOF = "ludoteca-proof"
"""A stream that never exists."""

Expected = int | StreamState
"""The revision of a stream's last event, or whether it exists."""


class WrongRevision(Exception):
    """A stream was not in the expected state. Nothing was appended by this call.

    `actual` has the revisions of streams that were not, as far as known; negative: there is none.
    """

    def __init__(self, actual: Mapping[str, int]) -> None:
        super().__init__(f"streams are at other revisions: {actual}")
        self.actual = actual


class _Unimplemented(Exception):
    """The server is too old for this call."""


class _Gone(Exception):
    """The stream does not exist, or is deleted."""


def client_url(url: str) -> str:
    """The URL with our defaults. Raises ValueError for one that prefers followers: what they
    answer may be out of date."""
    parts = urlsplit(url)
    given = {name.lower(): values[0] for name, values in parse_qs(parts.query).items()}
    if given.get("nodepreference", "leader").lower() != "leader":
        raise ValueError("NodePreference must be leader")
    added = [f"{name}={value}" for name, value in _DEFAULTS.items() if name.lower() not in given]
    query = "&".join([*([parts.query] if parts.query else []), *added])
    return f"{url.split('?', 1)[0]}?{query}"


def new_client(url: str) -> AsyncKurrentDBClient:
    """A client of the package, which connects at its first call. Raises as `open_client`."""
    client = AsyncKurrentDBClient(client_url(url))
    login = client.connection_spec.username, client.connection_spec.password
    # the package takes them as they are in the URL, where some characters must be escaped
    client._call_credentials = client.construct_call_credentials(
        *(part and unquote(part) for part in login)
    )
    return client


@asynccontextmanager
async def open_client(url: str) -> AsyncIterator[AsyncKurrentDBClient]:
    """A client of the package, closed on exit; it connects at its first call.

    Raises ValueError for a URL that it does not understand, OSError for a certificate that cannot
    be read.
    """
    client = new_client(url)
    try:
        yield client
    finally:
        await _close(client)


async def _close(client: AsyncKurrentDBClient) -> None:
    # ProgrammingError: it has never connected
    with suppress(KurrentDBClientError, ProgrammingError, grpc.RpcError, TimeoutError):
        async with asyncio.timeout(CALL_SECONDS):
            await client.close()


class Kurrentdb:
    """KurrentDB as one process uses it. Open with `async with Kurrentdb.open(url) as server`.

    Every method raises LogUnavailable when the server does not answer in time, or not as expected:
    what it was asked to do may have happened.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = new_client(url)
        self._has_checks = True  # AppendRecords, of 26.1; found out by the first append

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[Self]:
        """Raises as `open_client`."""
        server = cls(url)
        try:
            yield server
        finally:
            await _close(server._client)

    async def append(self, records: Sequence[NewRecord], expected: Mapping[str, Expected]) -> None:
        """Append to one or several streams, all or nothing, if all streams are as `expected`:
        those that are appended to, and others.

        Raises WrongRevision, TooLarge. A server before 26.1 cannot check streams that are not
        appended to in the same transaction: they are looked at just before it.
        """
        seconds = CALL_SECONDS + sum(len(each.data) for each in records) / BYTES_A_SECOND
        if self._has_checks:
            checks = [StreamStateCheck(name, state) for name, state in expected.items()]
            try:
                await self._call(
                    lambda client: client.append_records(records, checks, timeout=seconds), seconds
                )
                return
            except _Unimplemented:
                self._has_checks = False
        await self._append_session(records, expected, seconds)

    async def _append_session(
        self, records: Sequence[NewRecord], expected: Mapping[str, Expected], seconds: float
    ) -> None:
        events: dict[str, list[NewEvent]] = {}
        for each in records:
            event = NewEvent(each.type, each.data, each.metadata, each.content_type, each.id)
            events.setdefault(each.stream_name, []).append(event)
        for name in expected.keys() - events.keys():
            last = await self.last(name)
            if (StreamState.NO_STREAM if last is None else last.stream_position) != expected[name]:
                raise WrongRevision({name: -1 if last is None else last.stream_position})
        appends = [NewEvents(name, added, expected[name]) for name, added in events.items()]
        await self._call(
            lambda client: client.multi_append_to_stream(appends, timeout=seconds), seconds
        )

    async def last(self, stream: str) -> RecordedEvent | None:
        """The last event of a stream; None when it does not exist, or is deleted."""
        return await self._one(stream, None)

    async def at(self, stream: str, revision: int) -> RecordedEvent | None:
        """The event at a revision of a stream, if there is one."""
        found = await self._one(stream, revision)
        return found if found is not None and found.stream_position == revision else None

    async def _one(self, stream: str, revision: int | None) -> RecordedEvent | None:
        with suppress(_Gone):
            found = await self._call(
                lambda client: client.get_stream(
                    stream,
                    stream_position=revision,
                    backwards=revision is None,
                    limit=1,
                    timeout=CALL_SECONDS,
                )
            )
            return found[0] if found else None
        return None

    async def delete(self, stream: str, revision: int) -> None:
        """Delete a stream whose last event has this revision; it may begin again. Nothing happens
        to one that is deleted. Raises WrongRevision."""
        with suppress(_Gone):
            await self._call(
                lambda client: client.delete_stream(
                    stream, current_version=revision, timeout=CALL_SECONDS
                )
            )

    async def prove(self) -> None:
        """Check, without appending, that an append would be accepted: by one that the leader must
        refuse, as it expects a stream that does not exist."""
        record = NewRecord(_PROOF, "ludoteca.proof.v1", b"{}")
        with suppress(WrongRevision):
            await self.append([record], {_PROOF: StreamState.EXISTS})

    async def _call(
        self,
        call: Callable[[AsyncKurrentDBClient], Coroutine[object, object, Result]],
        seconds: float = CALL_SECONDS,
    ) -> Result:
        """Make a call, for a bounded time. Raises LogUnavailable, WrongRevision, TooLarge,
        _Unimplemented, _Gone."""
        client = self._client
        # In a task of its own: the package takes some cancellations for failures, and tries again.
        task = background_task(call(client), "call to KurrentDB")
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.wait([task], timeout=seconds)
            if not task.done():
                raise TimeoutError
            return task.result()
        except (TimeoutError, DeadlineExceededError) as error:
            self._replace(client)
            raise LogUnavailable("KurrentDB did not answer in time") from error
        except (KurrentDBClientError, grpc.RpcError, grpc.aio.UsageError) as error:
            raise _meaning(error) from error
        finally:
            task.cancel()

    def _replace(self, client: AsyncKurrentDBClient) -> None:
        """Connect anew at the next call: a node that hangs keeps its connections, and the package
        stays with it."""
        if client is self._client:
            self._client = new_client(self.url)
            self._closing = background_task(_close(client), "closing a client of KurrentDB")


def _meaning(error: Exception) -> Exception:
    """What a failure of the package means to callers."""
    if (refused := _refusal(error)) is not None:
        return refused
    if isinstance(error, _TOO_LARGE):
        return TooLarge("append_too_large", f"KurrentDB refuses the append: {error}")
    if isinstance(error, NotFoundError | StreamIsDeletedError):
        return _Gone()
    if grpc.StatusCode.UNIMPLEMENTED.name in str(error):
        return _Unimplemented()
    _seldom.warning("away", f"KurrentDB cannot be used: {error or type(error).__name__}")
    return LogUnavailable("KurrentDB cannot be reached, or has no leader")


def _refusal(error: Exception) -> WrongRevision | None:
    match error:
        case WrongCurrentVersionError(stream_name=str(name), actual_version=int(revision)):
            return WrongRevision({name: revision})
        case ConsistencyChecksFailedError():
            failed = [failure.stream_state_failure for failure in error.failures]
            return WrongRevision({each.stream_name: each.actual_state for each in failed if each})
        case WrongCurrentVersionError() | StreamTombstonedError():
            return WrongRevision({})
    return None
