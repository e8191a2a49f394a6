"""The setting of the tests of fiscal receipts: paid orders in the log, and the worker's jobs about
them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from commands.aggregates import ORDER, RECEIPT
from commands.caller import SYSTEM, Caller
from commands.ports.queue import Job, JobAttempt
from commands.workers.receipts import ReceiptWorker
from domain import orders
from domain.orders import OrderLine
from domain.receipts import Receipt, receipt_id
from eventstore.log import Recorded
from eventstore.unit_of_work import UnitOfWork
from runtime.settings import Settings
from runtime.wiring.core import Core, open_core

YEAR = 2026
DUE = datetime(2030, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def open_desk(database: str, home: Path, **fields: Any) -> AsyncIterator[Core]:
    settings = Settings(home=home, database_url=database, payment_timeout_seconds=1, **fields)
    async with open_core(settings) as core:
        yield core


async def paid(core: Core, *sold: tuple[UUID, int], by: Caller = SYSTEM) -> UUID:
    """A paid order of these sellers' games at these prices."""
    order_id = uuid4()
    lines = [
        OrderLine(uuid4(), uuid4(), seller, "DIGITAL", "Chess", 1, cents, 1000)
        for seller, cents in sold
    ]

    async def place(unit: UnitOfWork) -> None:
        placed = orders.place(
            buyer_id=uuid4(),
            region="US",
            currency="USD",
            lines=lines,
            payment_id=uuid4(),
            expires_at=DUE,
        )
        unit.create(ORDER, order_id, placed)

    async def confirm(unit: UnitOfWork) -> None:
        order = await unit.load(ORDER, order_id)
        assert order is not None
        unit.emit(order_id, orders.confirm(order, core.clock.now()))

    await core.handler.handle(place, by)
    await core.handler.handle(confirm, SYSTEM)
    return order_id


async def confirmation(core: Core, order_id: UUID) -> Recorded:
    return next(
        e
        for e in await core.log.read_stream(order_id)
        if isinstance(e.event, orders.OrderConfirmed)
    )


def job(order_id: UUID, seller_id: UUID, year: int = YEAR) -> Job:
    body = {"order_id": str(order_id), "seller_id": str(seller_id), "year": str(year)}
    return Job(receipt_id(order_id, seller_id), "receipt", body)


async def handle(
    worker: ReceiptWorker, order_id: UUID, seller_id: UUID, *, last: bool = False, year: int = YEAR
) -> None:
    await worker.handle(JobAttempt(job(order_id, seller_id, year), 5 if last else 1, last))


async def receipt_of(core: Core, order_id: UUID, seller_id: UUID) -> Receipt:
    receipt = await core.repository.state(RECEIPT, receipt_id(order_id, seller_id))
    assert receipt is not None
    return receipt


async def names(core: Core, order_id: UUID, seller_id: UUID) -> list[str]:
    """Short names of a receipt's events."""
    return [
        e.env.name.split(".")[3]
        for e in await core.log.read_stream(receipt_id(order_id, seller_id))
    ]
