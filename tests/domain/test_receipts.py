"""Fiscal receipts and the books that number them."""

from uuid import UUID

from spec import an_id, fold, given, when

from domain import receipts
from domain.events import Event
from domain.orders import OrderLine
from domain.receipts import (
    FiscalNumberGiven,
    FiscalReceiptCreated,
    FiscalReceiptFailed,
    FiscalReceiptRequested,
    evolve,
    evolve_book,
)

ORDER, SELLER, URL = an_id("order"), an_id("seller"), "https://fiscal.example/1"


def number_given(number: int, order: str = "order") -> FiscalNumberGiven:
    return FiscalNumberGiven(order_id=an_id(order), seller_id=SELLER, number=number, year=2026)


REQUESTED = FiscalReceiptRequested(
    order_id=ORDER, seller_id=SELLER, number=7, year=2026, amount_cents=1999, currency="USD"
)
CREATED = FiscalReceiptCreated(
    order_id=ORDER, seller_id=SELLER, number=7, year=2026, amount_cents=1999, currency="USD", url=URL
)
FAILED = FiscalReceiptFailed(
    order_id=ORDER, seller_id=SELLER, number=7, year=2026, code="operator_unavailable", attempts=5
)


def line(seller: str, cents: int, quantity: int = 1) -> OrderLine:
    return OrderLine(
        an_id(f"{seller} {cents}"), an_id("game"), an_id(seller), "PHYSICAL", "Chess", quantity, cents, 1000
    )


def test_the_first_number_of_a_book_is_one() -> None:
    when(lambda: [receipts.give_number(None, ORDER, SELLER, 2026)]).then(number_given(1))


def test_the_next_number_follows_the_last() -> None:
    given(evolve_book, number_given(1, "first"), number_given(2, "second")).when(
        lambda book: [receipts.give_number(book, ORDER, SELLER, 2026)]
    ).then(number_given(3))


def test_every_seller_and_every_year_has_a_book_of_its_own() -> None:
    books = {receipts.book_id(an_id(seller), year) for seller in "ab" for year in (2025, 2026)}
    assert len(books) == 4


def test_a_receipt_is_requested_under_the_number_that_the_book_gave() -> None:
    when(lambda: [receipts.request(number_given(7), 1999, "USD")]).then(REQUESTED)


def test_the_operator_has_it() -> None:
    given(evolve, REQUESTED).when(lambda receipt: receipts.mark_created(receipt, URL)).then(CREATED)


def test_what_the_operator_has_stays_created() -> None:
    created = given(evolve, REQUESTED, CREATED)
    created.when(lambda receipt: receipts.mark_created(receipt, "https://elsewhere.example")).then_nothing()
    created.when(lambda receipt: receipts.mark_failed(receipt, "late", 5)).then_nothing()


def test_it_fails_once() -> None:
    given(evolve, REQUESTED).when(lambda receipt: receipts.mark_failed(receipt, "operator_unavailable", 5)).then(FAILED)
    given(evolve, REQUESTED, FAILED).when(lambda receipt: receipts.mark_failed(receipt, "other", 9)).then_nothing()


def test_a_failed_one_is_created_later_under_its_number() -> None:
    given(evolve, REQUESTED, FAILED).when(lambda receipt: receipts.mark_created(receipt, URL)).then(CREATED)
    after: list[Event] = [REQUESTED, FAILED, CREATED]
    assert fold(evolve, *after).status == "CREATED"


def test_each_seller_of_an_order_gives_a_receipt_for_what_they_took() -> None:
    lines = (line("ann", 500, quantity=2), line("bob", 300), line("ann", 1), line("free", 0))
    assert receipts.amounts(lines) == {an_id("ann"): 1001, an_id("bob"): 300}


def test_a_free_order_has_no_receipt() -> None:
    nobody: dict[UUID, int] = {}
    assert receipts.amounts((line("ann", 0),)) == nobody
