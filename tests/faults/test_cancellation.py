"""A task that is cancelled stops, even if everything fails at the same moment, as when a supervisor
and its database are killed."""

import ast
import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from eventstore.database.postgres import open_pool
from kit.cancellation import cancellations
from runtime.processes import relay, worker
from runtime.settings import Settings
from tests.support import ROOT

FOLDERS = (
    "kit",
    "eventstore",
    "commands",
    "projections",
    "queries",
    "adapters",
    "api",
    "web",
    "runtime",
)

MAY_GO_ON = {
    "kit/cancellation.py let_end",  # ends in time
    "eventstore/append/sender.py send",  # ends with its batch
    "eventstore/append/sender.py _execute",
    "eventstore/append/writer.py _run",  # ends when nothing waits
    "eventstore/database/connections.py wait",  # ends with the statement
    "eventstore/database/pooled.py connect",
    "eventstore/database/watch.py _ask_elsewhere",
    "adapters/queues/postgres.py _publish_all",  # ends with its jobs
    "queries/engine/read_models.py rows",  # tries twice
}


def test_every_loop_that_goes_on_after_errors_looks_whether_it_is_to_stop() -> None:
    assert set(loops_that_go_on()) == MAY_GO_ON


def loops_that_go_on() -> Iterator[str]:
    """The loops of async functions that handle errors, continue, and do not check for
    cancellation."""
    for path in (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))):
        source = path.read_text()
        for function in (
            node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.AsyncFunctionDef)
        ):
            for loop in (node for node in ast.walk(function) if isinstance(node, ast.While)):
                text = ast.get_source_segment(source, loop) or ""
                if (goes_on(loop) or "suppress(" in text) and "stop_if_cancelled(" not in text:
                    yield f"{path.relative_to(ROOT)} {function.name}"


def goes_on(loop: ast.While) -> bool:
    """Whether it handles an error without leaving the loop."""
    tries = [node for node in ast.walk(loop) if isinstance(node, (ast.Try, ast.TryStar))]
    return any(
        not isinstance(handler.body[-1], ast.Raise | ast.Return | ast.Break)
        for t in tries
        for handler in t.handlers
    )


class Lost:
    """A lead whose database is lost at the moment when its holder is cancelled. There is no second
    lead."""

    def __init__(self) -> None:
        self._was_lost = False

    @asynccontextmanager
    async def leading(self, *_: object) -> AsyncIterator[None]:
        assert not self._was_lost, "it goes on"
        self._was_lost = True
        async with asyncio.TaskGroup() as group:
            group.create_task(_fails_when_stopped())
            yield


async def _fails_when_stopped() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise psycopg.OperationalError("terminating connection due to administrator command")


class Nothing:
    """Stands for every part of a process."""

    def __getattr__(self, name: str) -> Any:
        return Nothing()

    def __call__(self, *_: object, **__: object) -> Any:
        return Nothing()


class Idle:
    """Deadlines, none of which is due."""

    async def run(self) -> None:
        await asyncio.Event().wait()


async def test_deadlines_end_when_the_database_goes_at_the_same_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "leading", Lost().leading)
    monkeypatch.setattr(worker, "deadlines_of", lambda _: Idle())
    monkeypatch.setattr(worker, "purge_expired", lambda *_: asyncio.Event().wait())
    monkeypatch.setattr(worker, "keep_giving_up", lambda *_: asyncio.Event().wait())
    task = asyncio.create_task(worker._fire_deadlines(Nothing(), {}))  # type: ignore[arg-type]
    await _ends(task)


async def test_deadlines_are_led_anew_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    led = 0
    again = asyncio.Event()

    @asynccontextmanager
    async def leading(*_: object) -> AsyncIterator[None]:
        nonlocal led
        led += 1
        yield

    async def purge_expired(*_: object) -> None:
        if led == 1:
            raise psycopg.OperationalError("the server is demoted")
        again.set()

    monkeypatch.setattr(worker, "leading", leading)
    monkeypatch.setattr(worker, "deadlines_of", lambda _: Idle())
    monkeypatch.setattr(worker, "purge_expired", purge_expired)
    monkeypatch.setattr(worker, "keep_giving_up", lambda *_: asyncio.Event().wait())
    task = asyncio.create_task(worker._fire_deadlines(Nothing(), {}))  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        await again.wait()
    await _ends(task)


async def test_the_relay_ends_when_the_database_goes_at_the_same_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @asynccontextmanager
    async def core(_: Settings) -> AsyncIterator[Nothing]:
        yield Nothing()

    class Bus:
        async def close(self) -> None: ...

    monkeypatch.setattr(relay, "leading", Lost().leading)
    monkeypatch.setattr(relay, "open_core", core)
    monkeypatch.setattr(relay, "rabbitmq_bus", lambda _: Bus())
    monkeypatch.setattr(relay, "publish_log", lambda *_: asyncio.Event().wait())
    await _ends(asyncio.create_task(relay.relay(Settings())))


async def _ends(task: "asyncio.Task[None]") -> None:
    for _ in range(10):
        await asyncio.sleep(0)
    task.cancel()
    done, _pending = await asyncio.wait([task], timeout=5)
    assert done, "it goes on"
    assert task.cancelled()


async def test_a_cancellation_that_a_library_swallows_while_it_gets_a_connection_counts(
    database: str,
) -> None:
    async with open_pool(database, 1) as pool:
        before = cancellations()

        async def swallows(self: object, _: object = None) -> Any:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(0)
            return await original(self, 5)

        parent = type(pool).__mro__[1]
        original = parent.getconn  # type: ignore[attr-defined]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parent, "getconn", swallows)
            task = asyncio.create_task(pool.getconn())
            await asyncio.wait([task], timeout=5)
        assert task.cancelled()
        async with pool.connection(5) as conn:  # it was returned to the pool
            await conn.execute("SELECT 1")
        assert cancellations() == before
