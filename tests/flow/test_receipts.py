"""Fiscal receipts over the real log: numbers without gaps, whatever crashes or is unavailable."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.queues.postgres import PostgresQueue
from commands.aggregates import BOOK, RECEIPT
from commands.caller import IMPORTER
from commands.ports.fiscal import IssuedReceipt, KnownReceipt, OperatorUnavailable
from commands.ports.queue import Job
from commands.workers.receipts import ReceiptWorker, fiscal_receipts
from domain.receipts import book_id, receipt_id
from eventstore.log import Recorded
from runtime.wiring.core import Core
from runtime.wiring.work import receipt_worker
from tests.support.servers.fiscal import running_operator
from tests.support.shops.fiscal_desk import (
    YEAR,
    confirmation,
    handle,
    job,
    names,
    open_desk,
    paid,
    receipt_of,
)


class Published:
    """Stands in for a queue: records published jobs."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    async def publish(self, jobs: Sequence[Job]) -> None:
        self.jobs += jobs


class Operator:
    """Stands in for the operator: records receipts under their keys. Raises these errors in turn,
    before or after recording.

    Its books are not read.
    """

    def __init__(
        self, before: Sequence[BaseException] = (), after: Sequence[BaseException] = ()
    ) -> None:
        self.told: dict[str, tuple[int, UUID]] = {}
        self._before = list(before)
        self._after = list(after)

    def recover(self) -> None:
        """Answer normally from now on."""
        self._before.clear()
        self._after.clear()

    async def issue(
        self, *, number: int, order_id: UUID, idempotency_key: str, **_: object
    ) -> IssuedReceipt:
        if self._before:
            raise self._before.pop(0)
        assert self.told.setdefault(idempotency_key, (number, order_id)) == (number, order_id)
        if self._after:
            raise self._after.pop(0)
        return IssuedReceipt(f"ref {number}", f"https://fiscal.example/{number}")

    async def receipt_of(self, seller_id: UUID, order_id: UUID) -> KnownReceipt | None:
        raise NotImplementedError

    async def receipts_from(
        self, seller_id: UUID, year: int, number: int
    ) -> Sequence[KnownReceipt]:
        raise NotImplementedError

    async def receipts_since(
        self, issued_since: datetime | None, after: str | None
    ) -> Sequence[KnownReceipt]:
        raise NotImplementedError


@pytest.fixture
async def core(database: str, tmp_path: Path) -> AsyncIterator[Core]:
    async with open_desk(database, tmp_path) as core:
        yield core


async def jobs_of(core: Core, order_id: UUID) -> list[Job]:
    queue = Published()
    await fiscal_receipts(core.handler, queue).react(await confirmation(core, order_id))  # type: ignore[arg-type]
    return queue.jobs


# -- which orders get a receipt --------------------------------------------------------------------


async def test_each_seller_who_took_money_gets_a_job_and_the_same_one_when_it_is_asked_again(
    core: Core,
) -> None:
    ann, bob, free = uuid4(), uuid4(), uuid4()
    order_id = await paid(core, (ann, 500), (bob, 300), (free, 0), (ann, 100))
    jobs = await jobs_of(core, order_id)
    assert [job.id for job in jobs] == [receipt_id(order_id, ann), receipt_id(order_id, bob)]
    assert await jobs_of(core, order_id) == jobs


async def test_neither_a_free_order_nor_an_imported_one_has_a_receipt(core: Core) -> None:
    assert await jobs_of(core, await paid(core, (uuid4(), 0))) == []
    assert await jobs_of(core, await paid(core, (uuid4(), 500), by=IMPORTER)) == []


async def test_a_receipt_belongs_to_the_year_in_utc_in_which_the_order_was_paid(core: Core) -> None:
    confirmed = await confirmation(core, await paid(core, (uuid4(), 500)))
    new_year_in_utc = datetime(2025, 12, 31, 23, 30, tzinfo=timezone(timedelta(hours=-2)))
    queue = Published()
    env = msgspec.structs.replace(confirmed.env, recorded_at=new_year_in_utc)
    await fiscal_receipts(core.handler, queue).react(Recorded(env, confirmed.event))  # type: ignore[arg-type]
    assert [job.body["year"] for job in queue.jobs] == ["2026"]


# -- numbers ---------------------------------------------------------------------------------------


def test_books_have_neither_gaps_nor_doubles_however_many_ask_at_once_and_again(
    database: str, tmp_path: Path
) -> None:
    """Two processes over one log, each asked for every receipt, and an operator that does not
    always answer."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        cores = [
            runner.run(stack.enter_async_context(open_desk(database, tmp_path))) for _ in range(2)
        ]

        @settings(max_examples=6)
        @given(
            sales=st.lists(
                st.lists(st.integers(0, 2), min_size=1, max_size=3), min_size=1, max_size=10
            ),
            lost=st.integers(0, 5),
        )
        def holds(sales: list[list[int]], lost: int) -> None:
            runner.run(_ask_at_once(cores[0], cores[1], sales, lost))

        try:
            holds()
        finally:
            runner.run(stack.aclose())


async def _ask_at_once(one: Core, other: Core, sales: list[list[int]], lost: int) -> None:
    sellers = [uuid4() for _ in range(3)]
    operator = Operator(
        before=[OperatorUnavailable("lost")] * lost, after=[OperatorUnavailable("lost")] * lost
    )
    wanted = []
    for sold in sales:
        order_id = await paid(one, *[(sellers[n], 100 + n) for n in sold])
        wanted += [(order_id, sellers[n]) for n in sorted(set(sold))]
    asked = [(core, *each) for each in wanted for core in (one, other)]
    await asyncio.gather(
        *(
            handle(ReceiptWorker(core.handler, operator), order_id, seller)
            for core, order_id, seller in asked
        ),
        return_exceptions=True,
    )
    operator.recover()
    for order_id, seller in wanted:
        await handle(ReceiptWorker(one.handler, operator), order_id, seller)
    numbers: dict[UUID, list[int]] = {seller: [] for seller in sellers}
    for order_id, seller in wanted:
        receipt = await receipt_of(other, order_id, seller)
        assert receipt.status == "CREATED"
        assert operator.told[f"{seller}/{YEAR}/{receipt.number}/{order_id}"] == (
            receipt.number,
            order_id,
        )
        assert await names(other, order_id, seller) == ["requested", "created"]
        numbers[seller].append(receipt.number)
    for seller, given_out in numbers.items():
        assert sorted(given_out) == list(range(1, len(given_out) + 1))
        assert len(await other.log.read_stream(book_id(seller, YEAR))) == len(given_out)
    assert len(operator.told) == len(wanted)


async def test_a_long_book_goes_on_from_its_snapshot(
    core: Core, database: str, tmp_path: Path
) -> None:
    seller = uuid4()
    ids = [await paid(core, (seller, 500)) for _ in range(BOOK.snapshot_every + 1)]
    worker = ReceiptWorker(core.handler, Operator())
    for order_id in ids:
        await handle(worker, order_id, seller)
    await asyncio.gather(*core.repository._background)
    async with open_desk(database, tmp_path) as later:
        found = await later.repository._from_snapshot(BOOK, book_id(seller, YEAR))
        assert (found.version, found.state) == (
            BOOK.snapshot_every,
            BOOK.state(BOOK.snapshot_every),
        )
        order_id = await paid(later, (seller, 500))
        await handle(ReceiptWorker(later.handler, Operator()), order_id, seller)
        assert (await receipt_of(later, order_id, seller)).number == BOOK.snapshot_every + 2


# -- dying and failing -----------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_worker_killed_around_its_call_leaves_the_number_to_the_next(
    core: Core, when: str
) -> None:
    seller = uuid4()
    operator = Operator(**{when: [asyncio.CancelledError()]})
    order_id, next_id = await paid(core, (seller, 500)), await paid(core, (seller, 500))
    worker = ReceiptWorker(core.handler, operator)
    with pytest.raises(asyncio.CancelledError):
        await handle(worker, order_id, seller)
    await handle(worker, next_id, seller)
    assert (await receipt_of(core, order_id, seller)).status == "REQUESTED"
    await handle(worker, order_id, seller)
    assert (await receipt_of(core, order_id, seller)).status == "CREATED"
    assert [(await receipt_of(core, each, seller)).number for each in (order_id, next_id)] == [1, 2]
    assert set(operator.told.values()) == {(1, order_id), (2, next_id)}


async def test_a_dead_letter_that_is_redriven_keeps_its_number(
    database: str, tmp_path: Path
) -> None:
    seller = uuid4()
    with running_operator(tmp_path / "fiscal.sqlite3") as url:
        port = int(url.rpartition(":")[2])
    async with open_desk(database, tmp_path, fiscal_url=url) as core:
        queue = PostgresQueue(core.log.pool, "ludoteca.fiscal", backoff=(0.01,), poll_seconds=0.05)
        working = asyncio.create_task(queue.consume(receipt_worker(core).handle))
        first, second = await paid(core, (seller, 500)), await paid(core, (seller, 300))
        await queue.publish([job(first, seller)])
        await _until_status(core, first, seller, "FAILED")
        while not await queue.dead():  # noqa: ASYNC110 - the database knows
            await asyncio.sleep(0.01)
        with running_operator(tmp_path / "fiscal.sqlite3", port):
            await queue.publish([job(second, seller)])
            await _until_status(core, second, seller, "CREATED")
            book = f"{url}/v1/books/{seller}/{YEAR}"
            assert (await asyncio.to_thread(httpx.get, book)).json() == {
                "issued": 1,
                "last_number": 2,
                "gaps": [1],
            }
            assert await queue.redrive(receipt_id(first, seller))
            await _until_status(core, first, seller, "CREATED")
            assert (await asyncio.to_thread(httpx.get, book)).json() == {
                "issued": 2,
                "last_number": 2,
                "gaps": [],
            }
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        assert await names(core, first, seller) == ["requested", "failed", "created"]
        assert [(await receipt_of(core, each, seller)).number for each in (first, second)] == [1, 2]


async def _until_status(core: Core, order_id: UUID, seller_id: UUID, status: str) -> None:
    async with asyncio.timeout(10):
        while True:
            head = await core.log.head()
            receipt = await core.repository.state(RECEIPT, receipt_id(order_id, seller_id))
            if receipt is not None and receipt.status == status:
                return
            await core.log.watcher.beyond(head)
