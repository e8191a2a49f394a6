"""The program's processes: the relay, the removal of expired keys and sessions, and how servers
stop."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from adapters.postgres.sessions import PostgresSessions
from eventstore.consumers import checkpoints
from eventstore.consumers.leadership import leading
from eventstore.log import Envelope
from kit.clock import SYSTEM_CLOCK
from queries.operations.control import Operations
from runtime.processes import relay as relaying
from runtime.processes.worker import purge_expired
from tests.support.events.tallies import Counted
from tests.support.servers.shared import free_port
from tests.support.shops.engine import SOON, Desk


class Bus:
    """Records what is published."""

    def __init__(self) -> None:
        self.ids: list[UUID] = []

    def message(self, env: Envelope, payload: bytes, epoch: str | None) -> UUID:
        return env.event_id

    async def publish(self, messages: Sequence[UUID], *, before: float = 0) -> None:
        self.ids += messages

    async def close(self) -> None: ...


async def test_a_paused_relay_publishes_nothing_until_it_is_resumed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "PAUSED_SECONDS", 0.01)
    bus, stream, operations = Bus(), uuid4(), Operations(desk.log.pool)
    async with leading(desk.database, "relay.1") as conn:
        relay = asyncio.create_task(relaying.publish_log(desk.log, conn, bus))
        first = await desk.append(stream, Counted(1))
        await desk.caught_up("relay.1")

        assert await operations.pause("relay")
        looked = _looks_at_its_subscription(monkeypatch)
        second = await desk.append(stream, Counted(2))
        await looked.wait()
        assert bus.ids == first.event_ids
        assert not relay.done()

        assert await operations.resume("relay")
        await desk.caught_up("relay.1")
        assert bus.ids == [*first.event_ids, *second.event_ids]
        relay.cancel()
        with suppress(asyncio.CancelledError):
            await relay


class Slow(Bus):
    """Takes a page only when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.go_on = asyncio.Event(), asyncio.Event()

    async def publish(self, messages: Sequence[UUID], *, before: float = 0) -> None:
        self.began.set()
        await self.go_on.wait()
        await super().publish(messages)


async def test_a_relay_that_is_stopped_ends_its_page_and_begins_no_other(desk: Desk) -> None:
    bus = Slow()
    first = await desk.append(uuid4(), Counted(1))
    relay = asyncio.create_task(relaying.relay_to(desk.database, desk.log, "relay", bus))
    await bus.began.wait()
    await desk.append(uuid4(), Counted(2))
    relay.cancel()
    assert await asyncio.wait({relay}, timeout=0.2) == (set(), {relay})
    bus.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await relay
    assert bus.ids == first.event_ids
    assert desk.subscriptions()["relay.1"].position == 1


def _looks_at_its_subscription(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once the relay has checked several times whether it is paused."""
    looked, loop, left, look = (
        asyncio.Event(),
        asyncio.get_running_loop(),
        [5],
        checkpoints.subscription,
    )

    def counting(*arguments: object) -> checkpoints.Subscription | None:
        left[0] -= 1
        if left[0] == 0:
            loop.call_soon_threadsafe(looked.set)
        return look(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoints, "subscription", counting)
    return looked


async def test_expired_keys_and_sessions_are_dropped_and_the_others_kept(desk: Desk) -> None:
    for expires in ("-1 s", "1 day"):
        desk.execute(
            "INSERT INTO log.once (key, fingerprint, refs, position, expires_at)"
            " VALUES (%s, '', '{}', 1, clock_timestamp() + %s::interval)",
            *(uuid4(), expires),
        )
        desk.execute(
            "INSERT INTO private.sessions (session_id, user_id, generation, expires_at)"
            " VALUES (%s, %s, 1, clock_timestamp() + %s::interval)",
            *(uuid4(), uuid4(), expires),
        )
    purging = asyncio.create_task(
        purge_expired(desk.log, PostgresSessions(desk.log.pool), SYSTEM_CLOCK, {})
    )
    left = "SELECT (SELECT count(*) FROM log.once), (SELECT count(*) FROM private.sessions)"
    await desk.until(lambda _conn: desk.execute(left) == [(1, 1)])
    purging.cancel()


@pytest.mark.parametrize("command", ["api", "provider"])
def test_a_server_stops_promptly_on_sigterm_though_a_client_stays_connected(
    database: str, tmp_path: Path, command: str
) -> None:
    ports = {"LUDOTECA_PORT": str(free_port()), "LUDOTECA_PROVIDER_PORT": str(free_port())}
    settings = {"LUDOTECA_HOME": str(tmp_path), "LUDOTECA_DATABASE_URL": database, **ports}
    server = subprocess.Popen(
        [sys.executable, "-m", "runtime.cli", command], env={**os.environ, **settings}
    )
    try:
        with _connected(
            int(ports["LUDOTECA_PORT" if command == "api" else "LUDOTECA_PROVIDER_PORT"])
        ) as client:
            client.sendall(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 404"
            server.send_signal(signal.SIGTERM)
            assert server.wait(4) == 0  # less than the grace period of requests
    finally:
        server.kill()
        server.wait()


def test_the_api_registers_the_reactors_before_it_answers(database: str, tmp_path: Path) -> None:
    port = free_port()
    settings = {
        "LUDOTECA_HOME": str(tmp_path),
        "LUDOTECA_DATABASE_URL": database,
        "LUDOTECA_PORT": str(port),
    }
    api = subprocess.Popen(
        [sys.executable, "-m", "runtime.cli", "api"], env={**os.environ, **settings}
    )
    try:
        _connected(port).close()
        with psycopg.connect(database) as conn:
            assert {"mail_jobs", "people_told"} <= {
                subscription.projection for subscription in checkpoints.subscriptions(conn)
            }
    finally:
        api.kill()
        api.wait()


def _connected(port: int) -> socket.socket:
    """A connection, as soon as the server listens. Nothing reports that, so this polls."""
    deadline = time.monotonic() + 2 * SOON
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=SOON)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "nobody listens"
            time.sleep(0.02)
