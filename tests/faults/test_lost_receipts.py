"""Fiscal receipts that the operator issued and the log lost, because it went back. The operator's
book stays without gaps and duplicates, the log gets all of its entries, and every sale gets its
receipt without help."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from adapters.fiscal.client import HttpFiscalOperator
from adapters.queues.postgres import PostgresQueue
from commands.aggregates import RECEIPT
from commands.caller import IMPORTER
from commands.fiscal_reconciliation import queue_missing, reconcile, record_issued
from commands.ports.fiscal import IssuedReceipt, KnownReceipt, OperatorRefused, OperatorUnavailable
from commands.workers.receipts import ReceiptWorker
from domain.receipts import receipt_id
from eventstore.log import VersionConflict
from runtime.wiring.core import Core
from tests.support.databases.going_back import Earlier
from tests.support.servers.fiscal import running_operator
from tests.support.shops.fiscal_desk import YEAR, handle, names, open_desk, paid, receipt_of

SELLER = uuid4()


@pytest.fixture
def operator_url(tmp_path: Path) -> Iterator[str]:
    with running_operator(tmp_path / "fiscal.sqlite3") as url:
        yield url


@pytest.fixture
async def operator(operator_url: str) -> AsyncIterator[HttpFiscalOperator]:
    operator = HttpFiscalOperator(operator_url)
    yield operator
    await operator.aclose()


class Lives:
    """A shop whose log goes back to its state at `keep`."""

    def __init__(self, database: str, home: Path) -> None:
        self._database = database
        self._home = home
        self._earlier = Earlier(database)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Core]:
        async with open_desk(self._database, self._home) as core:
            yield core

    def keep(self) -> None:
        self._earlier.keep()

    @asynccontextmanager
    async def restored(self) -> AsyncIterator[Core]:
        self._earlier.go_back()
        async with self.open() as core:
            yield core


@pytest.fixture
def lives(database: str, tmp_path: Path) -> Lives:
    return Lives(database, tmp_path)


async def sell(core: Core, operator: HttpFiscalOperator, order_id: UUID | None = None) -> UUID:
    """A sale whose receipt is issued at the first attempt; of a given order, or a new one."""
    order_id = order_id or await paid(core, (SELLER, 500))
    await handle(ReceiptWorker(core.handler, operator), order_id, SELLER)
    assert (await receipt_of(core, order_id, SELLER)).status == "CREATED"
    return order_id


async def issued(core: Core, operator: HttpFiscalOperator, order_id: UUID) -> None:
    """As `sell`; who meets others in the book tries again, as the queue does."""
    for _ in range(10):
        with contextlib.suppress(VersionConflict):
            await sell(core, operator, order_id)
            return
    await sell(core, operator, order_id)


async def book(operator: HttpFiscalOperator) -> dict[int, UUID]:
    """The orders in the operator's book, by their numbers."""
    found: dict[int, UUID] = {}
    while page := await operator.receipts_from(SELLER, YEAR, max(found, default=0) + 1):
        found |= {each.number: each.order_id for each in page}
    return found


async def assert_whole(core: Core, operator: HttpFiscalOperator, sales: int) -> None:
    """The operator's book has this many receipts without a gap, and the log has each as the
    operator has it."""
    issued = await book(operator)
    assert list(issued) == list(range(1, sales + 1))
    for number, order_id in issued.items():
        receipt = await receipt_of(core, order_id, SELLER)
        assert (receipt.number, receipt.status) == (number, "CREATED")


async def test_new_receipts_go_on_behind_those_that_were_lost(
    lives: Lives, operator: HttpFiscalOperator, caplog: pytest.LogCaptureFixture
) -> None:
    async with lives.open() as core:
        await sell(core, operator)
    lives.keep()
    async with lives.open() as core:
        lost = [await sell(core, operator) for _ in range(3)]
    async with lives.restored() as core:
        new, next_one = await sell(core, operator), await sell(core, operator)
        assert [(await receipt_of(core, each, SELLER)).number for each in (new, next_one)] == [5, 6]
        assert await names(core, new, SELLER) == ["requested", "renumbered", "created"]
        assert [await names(core, each, SELLER) for each in lost] == [["found"]] * 3
        await assert_whole(core, operator, 6)
    assert [
        record.levelname
        for record in caplog.records
        if "the fiscal operator refused" in record.message
    ] == ["WARNING"]


async def test_an_order_that_the_log_has_keeps_the_receipt_that_the_operator_gave_it(
    lives: Lives, operator: HttpFiscalOperator
) -> None:
    async with lives.open() as core:
        first, second = await paid(core, (SELLER, 500)), await paid(core, (SELLER, 500))
    lives.keep()
    async with lives.open() as core:
        await sell(core, operator)
        for order_id in (first, second):
            await sell(core, operator, order_id)
    async with lives.restored() as core:
        await sell(core, operator, second)
        await sell(core, operator, first)
        assert await names(core, second, SELLER) == ["requested", "found"]
        assert await names(core, first, SELLER) == ["found"]
        await sell(core, operator)
        await assert_whole(core, operator, 4)


async def test_a_number_that_the_operator_gave_to_nobody_is_the_next_receipts(
    lives: Lives, operator: HttpFiscalOperator
) -> None:
    async with lives.open() as core:
        order_id = await paid(core, (SELLER, 500))
    lives.keep()
    async with lives.open() as core:
        with pytest.raises(OperatorUnavailable):
            await handle(unheard(core), await paid(core, (SELLER, 500)), SELLER)
        await sell(core, operator, order_id)
    assert list(await book(operator)) == [2]
    async with lives.restored() as core:
        await sell(core, operator, order_id)
        assert (await receipt_of(core, order_id, SELLER)).number == 2
        await sell(core, operator)
        await sell(core, operator)
        await assert_whole(core, operator, 3)


async def test_a_number_is_free_whoever_finds_that_it_was_asked_for_in_vain(
    lives: Lives, operator: HttpFiscalOperator
) -> None:
    async with lives.open() as core:
        order_id = await paid(core, (SELLER, 500))
    lives.keep()
    async with lives.open() as core:
        with pytest.raises(OperatorUnavailable):
            await handle(unheard(core), await paid(core, (SELLER, 500)), SELLER)
        await sell(core, operator, order_id)
    assert list(await book(operator)) == [2]
    async with lives.restored() as core:
        with pytest.raises(OperatorUnavailable):
            await handle(unheard(core), order_id, SELLER)
        assert (await receipt_of(core, order_id, SELLER)).number == 1
        assert len(await reconcile(core.handler, operator)) == 1
        assert (await receipt_of(core, order_id, SELLER)).number == 2
        await sell(core, operator)
        await assert_whole(core, operator, 2)


async def test_an_order_paid_again_in_another_year_has_the_receipt_of_the_first(
    lives: Lives, operator: HttpFiscalOperator
) -> None:
    async with lives.open() as core:
        order_id = await paid(core, (SELLER, 500))
    lives.keep()
    async with lives.open() as core:
        await sell(core, operator, order_id)
    async with lives.restored() as core:
        await handle(ReceiptWorker(core.handler, operator), order_id, SELLER, year=YEAR + 1)
        receipt = await receipt_of(core, order_id, SELLER)
        assert (receipt.year, receipt.number, receipt.status) == (YEAR, 1, "CREATED")
        next_year = await paid(core, (SELLER, 500))
        await handle(ReceiptWorker(core.handler, operator), next_year, SELLER, year=YEAR + 1)
        assert (await receipt_of(core, next_year, SELLER)).number == 1


async def test_what_somebody_entered_at_the_operator_by_hand_is_passed_over(
    lives: Lives, operator_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A cancellation receipt, for instance, with a negative amount."""
    operator = HttpFiscalOperator(operator_url)
    storno = KnownReceipt(SELLER, YEAR, 7, uuid4(), -500, "USD", "storno")
    async with lives.open() as core:
        assert (
            await core.handler.handle(lambda unit: record_issued(unit, [storno]), IMPORTER)
        ).value == []
        await sell(core, operator)
        await assert_whole(core, operator, 1)
    assert "none of ours" in caplog.text
    await operator.aclose()


def unheard(core: Core) -> ReceiptWorker:
    """A worker whose operator is unreachable."""
    return ReceiptWorker(core.handler, HttpFiscalOperator("http://127.0.0.1:1"))


@pytest.mark.parametrize("lost", [30, pytest.param(250, marks=pytest.mark.soak)])
async def test_many_at_once_in_two_processes_end_with_a_whole_book(
    lives: Lives, operator: HttpFiscalOperator, lost: int
) -> None:
    async with lives.open() as core:
        kept = [await paid(core, (SELLER, 500)) for _ in range(6)]
    lives.keep()
    async with lives.open() as core:
        for n in range(lost):
            await sell(core, operator, kept[n // 3] if n % 3 == 0 and n < 9 else None)
    async with AsyncExitStack() as stack:
        cores = [await stack.enter_async_context(each) for each in (lives.restored(), lives.open())]
        orders = [*kept, *[await paid(cores[0], (SELLER, 500)) for _ in range(10)]]
        await asyncio.gather(*(issued(core, operator, each) for each in orders for core in cores))
        for _ in range(len(orders)):
            numbers = await book(operator)
            if len(numbers) == max(numbers):  # those freed meanwhile are the next sales'
                break
            await sell(cores[0], operator)
        await assert_whole(cores[1], operator, len(numbers))


async def test_a_receipt_with_another_amount_at_the_operator_is_kept_and_reported(
    lives: Lives, operator: HttpFiscalOperator, caplog: pytest.LogCaptureFixture
) -> None:
    async with lives.open() as core:
        order_id = await paid(core, (SELLER, 500))
        await operator.issue(
            seller_id=SELLER, year=YEAR, number=1, order_id=order_id, amount_cents=700,
            currency="USD",
            idempotency_key=f"{SELLER}/{YEAR}/1",
        )  # fmt: skip
        await sell(core, operator, order_id)
        assert (await receipt_of(core, order_id, SELLER)).amount_cents == 700
        await sell(core, operator)
        await assert_whole(core, operator, 2)
    assert [
        record.levelname
        for record in caplog.records
        if "for 700 USD, and not for 500 USD" in record.message
    ] == ["ERROR"]


async def test_a_failed_receipt_is_got_by_a_redrive(
    lives: Lives, operator: HttpFiscalOperator
) -> None:
    """As an earlier release left it: refused, and given up."""
    lives.keep()
    async with lives.open() as core:
        await sell(core, operator)
    async with lives.restored() as core:
        order_id = await paid(core, (SELLER, 500))
        deaf = ReceiptWorker(core.handler, BooksClosed())  # type: ignore[arg-type]
        with pytest.raises(OperatorRefused, match="idempotency_key_reused"):
            await handle(deaf, order_id, SELLER, last=True)
        assert (await receipt_of(core, order_id, SELLER)).status == "FAILED"
        await sell(core, operator, order_id)
        await assert_whole(core, operator, 2)


class BooksClosed:
    """An operator that refuses, and does not show its books."""

    async def issue(self, **_: object) -> None:
        raise OperatorRefused("idempotency_key_reused", "the key was used for another receipt")

    async def receipts_from(self, *_: object) -> list[KnownReceipt]:
        raise OperatorRefused("http_404", "")

    async def receipt_of(self, *_: object) -> None:
        raise OperatorRefused("http_404", "")


async def test_a_refusal_that_the_book_does_not_explain_is_one(
    lives: Lives, operator_url: str
) -> None:
    class Strict(HttpFiscalOperator):
        async def issue(self, **_: object) -> IssuedReceipt:
            raise OperatorRefused("tax_id_unknown", "")

    operator = Strict(operator_url)
    async with lives.open() as core:
        order_id = await paid(core, (SELLER, 500))
        with pytest.raises(OperatorRefused, match="tax_id_unknown"):
            await handle(ReceiptWorker(core.handler, operator), order_id, SELLER, last=True)
        assert await names(core, order_id, SELLER) == ["requested", "failed"]
    await operator.aclose()


async def test_no_number_is_given_to_an_order_that_the_log_has_lost(
    lives: Lives, operator: HttpFiscalOperator
) -> None:
    async with lives.open() as core:
        order_id, head = uuid4(), await core.log.head()
        await handle(ReceiptWorker(core.handler, operator), order_id, SELLER)
        assert await core.repository.state(RECEIPT, receipt_id(order_id, SELLER)) is None
        assert await core.log.head() == head
    assert await book(operator) == {}


async def test_all_that_the_operator_issued_can_be_entered_at_once(
    lives: Lives, operator: HttpFiscalOperator
) -> None:
    async with lives.open() as core:
        kept = await paid(core, (SELLER, 500))
    lives.keep()
    async with lives.open() as core:
        for n in range(102):
            await sell(core, operator, kept if n == 50 else None)
    async with lives.restored() as core:
        found = await reconcile(core.handler, operator)
        assert [each.receipt.number for each in found] == list(range(1, 103))
        assert [each.receipt.number for each in found if each.order_is_known] == [51]
        head = await core.log.head()
        assert await reconcile(core.handler, operator) == []
        assert await core.log.head() == head
        await sell(core, operator, kept)
        new = await sell(core, operator)
        assert await names(core, new, SELLER) == ["requested", "created"]
        await assert_whole(core, operator, 103)


async def test_receipts_whose_jobs_a_broker_lost_are_asked_for_anew(
    lives: Lives, operator: HttpFiscalOperator
) -> None:
    async with lives.open() as core:
        began = core.clock.now()
        await sell(core, operator)
        lost, elsewhere = (
            await paid(core, (SELLER, 500)),
            await paid(core, (SELLER, 500), by=IMPORTER),
        )
        queue = PostgresQueue(core.log.pool, "ludoteca.fiscal", poll_seconds=0.05)
        assert await queue_missing(core.handler, queue, core.clock.now()) == []
        for _ in range(2):  # the second one is waiting already
            (job,) = await queue_missing(core.handler, queue, began)
        assert await queue.depth() == 1
        working = asyncio.create_task(queue.consume(ReceiptWorker(core.handler, operator).handle))
        async with asyncio.timeout(30):
            while await queue.depth():  # noqa: ASYNC110 - the database knows
                await asyncio.sleep(0.02)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        assert job.id == receipt_id(lost, SELLER)
        assert await names(core, lost, SELLER) == ["requested", "created"]
        assert await names(core, elsewhere, SELLER) == []
