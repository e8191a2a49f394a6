"""One prepared statement on a connection of its own, called at libpq's level in pipeline mode.

For the one statement that every append waits for. A cursor's `execute` looks up how to send each
argument, and builds a generator and an event loop registration for every step: for a statement of a
few bytes that costs several times as much as the sending. In pipeline mode the next call is already
at the server when the current one ends.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Self

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, Format
from psycopg.pq.abc import PGresult

from eventstore.database.connections import AsyncConnection

_NAME = b"pipelined"
_FAILED = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE, ExecStatus.PIPELINE_ABORTED)
_LAST_WORDS = (b"FATAL", b"PANIC")
"""Severities after which the server closes the connection."""

LOOK_SECONDS = 1.0
"""How often the socket is read while an answer is due, even without a notification of the event
loop: libuv stops polling a socket whose last data and reset came in one event."""

ANSWER_SECONDS = 10.0
"""How long an answer may take before the connection counts as lost."""


class Pipeline:
    """Calls are answered in order, once committed. Each is a transaction of its own and fails
    alone."""

    def __init__(self, conn: AsyncConnection, notified: Callable[[int, str], None]) -> None:
        self.lost = False
        """Whether the connection broke: pending calls have failed, and further ones will."""
        self.conn = conn
        self._pgconn = conn.pgconn
        self._notified = notified
        self.listens = False
        """Whether notifications are received."""
        self._loop = asyncio.get_running_loop()
        self._socket = conn.fileno()
        # with the deadline of each answer
        self._calls: deque[tuple[asyncio.Future[PGresult], float]] = deque()
        self._look: asyncio.TimerHandle | None = None
        self._result: PGresult | None = None  # of the first call, until its sync
        self._warning = ""  # about the first call
        conn.add_notice_handler(self._noticed)

    @classmethod
    async def open(
        cls, conn: AsyncConnection, sql: str, notified: Callable[[int, str], None]
    ) -> Self:
        """Prepare the statement. The pipeline owns the connection from now on. `notified` gets
        each notification that the connection receives: the process id of the sender's server, and
        the payload. Raises psycopg.Error."""
        self = cls(conn, notified)
        self._pgconn.enter_pipeline_mode()
        # Register once: doing so for every call would cost two more system calls each.
        self._loop.add_reader(self._socket, self._read)
        try:
            self._pgconn.send_prepare(_NAME, sql.encode())
            await self._sent()
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """Close the connection. Pending calls fail."""
        self._lose(psycopg.OperationalError("the connection was closed"))
        await self.conn.close()

    def call(self, arguments: Sequence[bytes | None]) -> asyncio.Future[PGresult]:
        """Run the statement; arguments and result are in binary wire format. Raises psycopg.Error,
        at once or from the future."""
        if self.lost:
            raise psycopg.OperationalError("the connection is lost")
        formats = [Format.BINARY] * len(arguments)
        try:
            self._pgconn.send_query_prepared(
                _NAME, arguments, param_formats=formats, result_format=Format.BINARY
            )
            return self._sent()
        except psycopg.Error as error:  # it cannot send any more, even if it still receives
            self._lose(error)
            raise

    def listen(self, channel: str) -> None:
        """Receive the channel's notifications, from the next call on. No-op when it does."""
        if not self.listens:
            self.listens = True
            self._run(f"LISTEN {channel}")

    def unlisten(self) -> None:
        """Receive no more notifications."""
        self.listens = False
        self._run("UNLISTEN *")

    def _run(self, command: str) -> None:
        """Run a command whose failure does not matter. Raises psycopg.Error when it cannot be
        sent."""
        try:
            self._pgconn.send_query_params(command.encode(), None)
            self._sent().add_done_callback(lambda done: done.cancelled() or done.exception())
        except psycopg.Error as error:
            self._lose(error)
            raise

    def _sent(self) -> asyncio.Future[PGresult]:
        """End a call, flush it, and expect its answer."""
        self._pgconn.pipeline_sync()
        answer: asyncio.Future[PGresult] = self._loop.create_future()
        if not self._calls:
            self.conn.waits_since = monotonic()
        self._calls.append((answer, self._loop.time() + ANSWER_SECONDS))
        if self._look is None:
            self._look = self._loop.call_later(LOOK_SECONDS, self._look_again)
        if self._pgconn.flush() != 0:  # the socket's buffer is full
            self._loop.add_writer(self._socket, self._write)
        return answer

    def _look_again(self) -> None:
        """Detect a connection that broke unnoticed, while an answer is due."""
        self._look = None
        self._read()
        if self._calls:
            if self._loop.time() > self._calls[0][1]:
                self._lose(psycopg.OperationalError("the server does not answer"))
            else:
                self._look = self._loop.call_later(LOOK_SECONDS, self._look_again)

    def _write(self) -> None:
        try:
            if self._pgconn.flush() == 0:
                self._loop.remove_writer(self._socket)
        except psycopg.Error as error:
            self._lose(error)

    def _read(self) -> None:
        pgconn = self._pgconn
        try:
            pgconn.consume_input()
            while (notification := pgconn.notifies()) is not None:
                self._notified(notification.be_pid, notification.extra.decode())
            while not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:  # the end of a command's results, or of all
                    if pgconn.status == ConnStatus.BAD or not self._calls:
                        break
                elif result.status == ExecStatus.PIPELINE_SYNC:
                    self._answer()
                    if not self._calls:
                        break
                elif self._result is None or result.status in _FAILED:
                    # The commit follows the statement's result, with the sync: it may fail after a
                    # success.
                    self._result = result
                    if result.error_field(DiagnosticField.SEVERITY_NONLOCALIZED) in _LAST_WORDS:
                        self._lose(error_from_result(result))
                        break
        except psycopg.Error as error:
            self._lose(error)
        else:
            if pgconn.status == ConnStatus.BAD:
                self._lose(psycopg.OperationalError("the server closed the connection"))

    def _noticed(self, notice: psycopg.errors.Diagnostic) -> None:
        """A commit that is told to stop waiting for a synchronous standby succeeds, with a warning
        in the server's language, as if it were replicated. No call warns of anything else."""
        if notice.severity_nonlocalized == "WARNING":
            self._warning = notice.message_primary or "a warning"

    def _answer(self) -> None:
        """Resolve the first call, which the server has completed."""
        (answer, _) = self._calls.popleft()
        result, warning = self._result, self._warning
        self._result = None
        self._warning = ""
        self.conn.heard_at = now = monotonic()
        self.conn.waits_since = now if self._calls else None  # the server starts the next
        error: psycopg.Error | None = None
        if result is None:
            error = psycopg.InternalError("no result")
        elif result.status in _FAILED:
            error = error_from_result(result)
        elif warning:
            error = psycopg.OperationalError(warning)
        if not answer.done():  # else its caller has gone
            if error is not None:
                answer.set_exception(error)
            elif result is not None:
                answer.set_result(result)
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            self._lose(error)  # a new connection finds the writable server

    def _lose(self, error: psycopg.Error) -> None:
        """Give up the connection, and fail all pending calls."""
        if self.lost:
            return
        self.lost = True
        self.conn.waits_since = None
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        if self._look is not None:
            self._look.cancel()
            self._look = None
        for answer, _ in self._calls:
            if not answer.done():
                answer.set_exception(psycopg.OperationalError(str(error)))
        self._calls.clear()
