"""Both work queues, as their contract tests need them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import ClassVar, Protocol

import psycopg
from aio_pika.exceptions import AMQPConnectionError
from psycopg_pool import AsyncConnectionPool
from yarl import URL

from adapters.queues.postgres import PostgresQueue
from adapters.queues.rabbitmq import RabbitQueue, connect
from commands.ports.queue import JobAttempt, JobHandler, WorkQueue
from tests.support.servers.tcp_proxy import Wire

LEASE_SECONDS = 0.5


class Station(Protocol):
    """A broker, with the test's connection to it, which can be cut."""

    KIND: ClassVar[str]
    url: str

    async def queue(self, name: str, backoff: Sequence[float]) -> WorkQueue:
        """A queue over a new connection, as another process would have."""
        ...

    async def cut(self) -> None:
        """Cut every connection."""
        ...


class PostgresStation:
    KIND: ClassVar[str] = "postgres"

    def __init__(self, url: str, stack: contextlib.AsyncExitStack) -> None:
        self.url = url
        self._stack = stack

    async def queue(self, name: str, backoff: Sequence[float]) -> WorkQueue:
        pool = AsyncConnectionPool(self.url, min_size=1, max_size=4, open=False)
        await self._stack.enter_async_context(pool)
        return PostgresQueue(
            pool, name, backoff=backoff, lease_seconds=LEASE_SECONDS, poll_seconds=0.2
        )

    async def cut(self) -> None:
        async with await psycopg.AsyncConnection.connect(self.url) as conn:
            await conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


class RabbitStation:
    KIND: ClassVar[str] = "rabbitmq"

    def __init__(self, url: str, wire: Wire, stack: contextlib.AsyncExitStack) -> None:
        self.url = url
        self._wire = wire
        self._stack = stack

    async def queue(self, name: str, backoff: Sequence[float]) -> WorkQueue:
        through_wire = URL(self.url).with_host("127.0.0.1").with_port(self._wire.port)
        connection = await connect(str(through_wire), reconnect_seconds=0.1)
        self._stack.push_async_callback(connection.close)
        async with asyncio.timeout(60):  # a busy broker may not answer at once
            await connection.connected.wait()
        return RabbitQueue(connection, name, backoff=backoff)

    async def cut(self) -> None:
        self._wire.cut()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""

    async def holds() -> bool:
        return condition()

    await until_so(holds)


async def until_depth(queue: WorkQueue, depth: int) -> None:
    """Wait until so many jobs are left. RabbitMQ counts no message that it has sent and the worker
    does not have yet: wait first until the worker has had what it is to have."""

    async def holds() -> bool:
        return await queue.depth() == depth

    await until_so(holds)


async def until_listening(pool: AsyncConnectionPool, connections: int) -> None:
    """Wait until the consumers of PostgreSQL's queues listen over so many connections."""

    async def holds() -> bool:
        async with pool.connection() as conn:
            cursor = await conn.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'ludoteca queue'"
            )
            return await cursor.fetchone() == (connections,)

    await until_so(holds)


async def until_it_answers(queue: WorkQueue) -> None:
    async def answers() -> bool:
        try:
            await queue.depth()
        except AMQPConnectionError:
            return False
        return True

    await until_so(answers)


async def until_dead(queue: WorkQueue, count: int) -> None:
    async def holds() -> bool:
        return len(await queue.dead_letters()) == count

    await until_so(holds)


async def until_so(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition holds on a server."""
    async with asyncio.timeout(15):
        while not await condition():  # noqa: ASYNC110 what is waited for happens on a server
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def consuming(
    queue: WorkQueue, handler: JobHandler, concurrency: int = 4, lost: JobHandler | None = None
) -> AsyncIterator[None]:
    """Consume while the block runs."""
    task = asyncio.create_task(queue.consume(handler, concurrency=concurrency, lost=lost))
    try:
        yield
    finally:
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Worker:
    """A handler that records its jobs, and raises what it is given to raise."""

    def __init__(self, *errors: BaseException | None) -> None:
        """Raises these errors in turn, then none."""
        self.attempts: list[JobAttempt] = []
        self.times: list[float] = []
        self._errors = list(errors)

    async def __call__(self, attempt: JobAttempt) -> None:
        self.attempts.append(attempt)
        self.times.append(asyncio.get_running_loop().time())
        error = self._errors.pop(0) if self._errors else None
        if error is not None:
            raise error

    def has_had(self, count: int) -> bool:
        return len(self.attempts) == count


class Stuck:
    """A handler that does not return until it is released."""

    def __init__(self) -> None:
        self.attempts: list[JobAttempt] = []
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, attempt: JobAttempt) -> None:
        self.attempts.append(attempt)
        self.began.set()
        await self.go_on.wait()
