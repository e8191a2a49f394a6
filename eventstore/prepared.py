"""A prepared statement called at libpq's level, for the one statement that every append waits for.

A cursor's `execute` looks up how to send each argument, and builds a generator and an event loop registration for every
step: for a statement of a few bytes that costs several times as much as the sending itself.
"""

import asyncio
from collections.abc import Sequence
from typing import Self

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult

_FAILED = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE)


class PreparedStatement:
    """One statement on one connection; nobody else may use the connection during a call."""

    def __init__(self, conn: psycopg.AsyncConnection, name: str) -> None:
        self._pgconn, self._name = conn.pgconn, name.encode()

    @classmethod
    async def prepare(cls, conn: psycopg.AsyncConnection, name: str, sql: str) -> Self:
        """Have the server parse it. Raises psycopg.Error."""
        statement = cls(conn, name)
        conn.pgconn.send_prepare(statement._name, sql.encode())
        await statement._answer()
        return statement

    async def call(self, arguments: Sequence[bytes]) -> PGresult:
        """Run it; arguments and result are in binary wire format. Raises psycopg.Error as a cursor would."""
        self._pgconn.send_query_prepared(
            self._name, arguments, param_formats=[Format.BINARY] * len(arguments), result_format=Format.BINARY
        )
        return await self._answer()

    async def _answer(self) -> PGresult:
        """Send what is left to send and read until the server is ready again."""
        pgconn, loop = self._pgconn, asyncio.get_running_loop()
        results: list[PGresult] = []
        done: asyncio.Future[None] = loop.create_future()

        def read() -> None:
            try:
                pgconn.consume_input()
                while not pgconn.is_busy():
                    result = pgconn.get_result()
                    if result is None:
                        _finish(done)
                        return
                    results.append(result)
            except psycopg.Error as error:
                _finish(done, error)

        def write() -> None:
            try:
                if pgconn.flush() == 0:
                    loop.remove_writer(socket)
            except psycopg.Error as error:
                _finish(done, error)

        socket = pgconn.socket
        loop.add_reader(socket, read)
        try:
            if pgconn.flush() != 0:  # more than the socket takes at once
                loop.add_writer(socket, write)
            await done
        finally:
            loop.remove_reader(socket)
            loop.remove_writer(socket)
        if results[0].status in _FAILED:
            raise error_from_result(results[0])
        return results[0]


def _finish(done: asyncio.Future[None], error: Exception | None = None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
