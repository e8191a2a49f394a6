"""Listens to the live status, as a buyer's client does."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support.processes.instance import PATIENCE, Instance, Person
from tests.support.servers.shared import free_port


@contextmanager
def another_api(shop: Instance) -> Iterator[Instance]:
    """A second API process of the same shop."""
    port = free_port()
    instance = replace(
        shop, port=port, environment={**shop.environment, "LUDOTECA_PORT": str(port)}, running={}
    )
    try:
        instance.start("api")
        instance.await_ready()
        yield instance
    finally:
        instance.stop()


@contextmanager
def listening(shop: Instance, who: Person, **more: int) -> Iterator[ClientConnection]:
    """Connect, and receive the greeting."""
    token = who.http.headers["Authorization"].removeprefix("Bearer ")
    with connect(f"ws://127.0.0.1:{shop.port}/api/v1/ws/orders", open_timeout=PATIENCE) as ws:
        ws.send(json.dumps({"token": token, **more}))
        assert json.loads(ws.recv(PATIENCE))["type"] == "ready"
        yield ws


def hear(ws: ClientConnection, *wanted: tuple[str, str]) -> list[dict[str, Any]]:
    """All messages until each of these was received: a type, a status."""
    found: list[dict[str, Any]] = []
    while not set(wanted) <= {(each["type"], each["status"]) for each in found}:
        found.append(json.loads(ws.recv(PATIENCE)))
    return found


def close_code(ws: ClientConnection) -> int | None:
    """The code with which the server closes the connection, after any messages."""
    try:
        while True:
            ws.recv(PATIENCE)
    except ConnectionClosed:
        return ws.close_code
