"""The gateway composed for RabbitMQ, while RabbitMQ is away and after it is back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from yarl import URL

from runtime.gateway.app import open_app
from tests.support.servers.tcp_proxy import Wire
from tests.support.shops.gateway import CARD, Shop, open_shop
from tests.support.shops.small_gateway import client_of

REST = {"database": "ok", "writer": "ok", "clock": "ok"}
"""The gateway's other dependencies."""


@asynccontextmanager
async def cut_off(database: str, home: Path, broker: URL) -> AsyncIterator[tuple[Shop, Wire]]:
    """A shop without its connection to the broker."""
    wire = Wire(broker.host or "localhost", broker.port or 5672)
    async with wire:
        pass  # its port stays the same, and nothing listens there
    url = str(broker.with_host("127.0.0.1").with_port(wire.port))
    async with (
        open_shop(database, home, rabbitmq_url=url, rate_limit="off") as shop,
        open_app(shop.core, shop.queues) as app,
    ):
        shop.app = app
        yield shop, wire


async def test_orders_are_taken_the_rest_fails_at_once_and_waiting_work_goes_on_afterwards(
    database: str, tmp_path: Path, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.queues.rabbitmq.ANSWER_SECONDS", 0.1)
    async with cut_off(database, tmp_path, URL(rabbitmq_url)) as (shop, wire):
        admin, buyer = await shop.register("ADMIN"), await shop.register()
        game = await shop.game(admin)
        with monkeypatch.context() as patient:
            for seconds in (
                "adapters.queues.rabbitmq.ANSWER_SECONDS",
                "api.routes.health.CHECK_SECONDS",
            ):
                patient.setattr(seconds, 1000.0)  # what waits for RabbitMQ now waits too long
            async with asyncio.timeout(100):
                order = await buyer.post(
                    "/api/v1/orders",
                    json={"game_id": game["id"], "payment_method": {"type": "card", "token": CARD}},
                    headers={"Prefer": "respond-async"},
                )
                assert order.is_success, order.text
                assert await readiness(shop) == (503, {**REST, "rabbitmq": "down"})
                dead_letters = await admin.get("/api/v1/ops/dead-letters")
                assert (dead_letters.status_code, dead_letters.json()["code"]) == (
                    503,
                    "dependency_unavailable",
                )
                assert "retry-after" in dead_letters.headers
                metrics = await client_of(shop.app).get("/metrics")
                assert "ludoteca_projection_lag" in metrics.text
                assert "ludoteca_queue_depth{" not in metrics.text

        async def bought() -> Any:
            path = f"/api/v1/orders/{order.json()['order_id']}"
            found: httpx.Response = await buyer.get(path, headers=await shop.reached())
            return found.json()["status"]

        assert await bought() == "PENDING_PAYMENT"
        async with wire:
            await shop.eventually(bought, lambda status: status == "COMPLETED")
            assert await readiness(shop) == (200, {**REST, "rabbitmq": "ok"})


async def readiness(shop: Shop) -> tuple[int, dict[str, str]]:
    answer = await client_of(shop.app).get("/health/ready")
    return answer.status_code, {
        name: each["status"] for name, each in answer.json()["dependencies"].items()
    }
