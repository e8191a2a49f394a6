"""Fiscal receipts and the books that number them."""

from uuid import UUID

from domain import receipts
from domain.events import Event
from domain.orders import OrderLine
from domain.receipts import (
    FiscalNumberFreed,
    FiscalNumberGiven,
    FiscalReceiptCreated,
    FiscalReceiptFailed,
    FiscalReceiptFound,
    FiscalReceiptRenumbered,
    FiscalReceiptRequested,
    evolve,
    evolve_book,
)
from tests.support.given_when_then import an_id, fold, given, when

ORDER, SELLER, URL = an_id("order"), an_id("seller"), "https://fiscal.example/1"


def number_given(number: int, order: str = "order") -> FiscalNumberGiven:
    return FiscalNumberGiven(order_id=an_id(order), seller_id=SELLER, number=number, year=2026)


REQUESTED = FiscalReceiptRequested(
    order_id=ORDER, seller_id=SELLER, number=7, year=2026, amount_cents=1999, currency="USD"
)
CREATED = FiscalReceiptCreated(
    order_id=ORDER,
    seller_id=SELLER,
    number=7,
    year=2026,
    amount_cents=1999,
    currency="USD",
    url=URL,
)
FAILED = FiscalReceiptFailed(
    order_id=ORDER, seller_id=SELLER, number=7, year=2026, code="operator_unavailable", attempts=5
)


def line(seller: str, cents: int, quantity: int = 1) -> OrderLine:
    return OrderLine(
        an_id(f"{seller} {cents}"),
        an_id("game"),
        an_id(seller),
        "PHYSICAL",
        "Chess",
        quantity,
        cents,
        1000,
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
    created.when(
        lambda receipt: receipts.mark_created(receipt, "https://elsewhere.example")
    ).then_nothing()
    created.when(lambda receipt: receipts.mark_failed(receipt, "late", 5)).then_nothing()


def test_it_fails_once() -> None:
    given(evolve, REQUESTED).when(
        lambda receipt: receipts.mark_failed(receipt, "operator_unavailable", 5)
    ).then(FAILED)
    given(evolve, REQUESTED, FAILED).when(
        lambda receipt: receipts.mark_failed(receipt, "other", 9)
    ).then_nothing()


def test_a_failed_one_is_created_later_under_its_number() -> None:
    given(evolve, REQUESTED, FAILED).when(lambda receipt: receipts.mark_created(receipt, URL)).then(
        CREATED
    )
    after: list[Event] = [REQUESTED, FAILED, CREATED]
    assert fold(evolve, *after).status == "CREATED"


def test_each_seller_of_an_order_gives_a_receipt_for_what_they_took() -> None:
    lines = (line("ann", 500, quantity=2), line("bob", 300), line("ann", 1), line("free", 0))
    assert receipts.amounts(lines) == {an_id("ann"): 1001, an_id("bob"): 300}


def test_a_free_order_has_no_receipt() -> None:
    nobody: dict[UUID, int] = {}
    assert receipts.amounts((line("ann", 0),)) == nobody


# -- receipts that only the operator has -----------------------------------------------------------


def found(
    number: int, order: str = "order", year: int = 2026, cents: int = 1999
) -> FiscalReceiptFound:
    return FiscalReceiptFound(
        order_id=an_id(order), seller_id=SELLER, number=number, year=year, amount_cents=cents,
        currency="USD",
        reference=f"fr_{number}",
    )  # fmt: skip


def freed(number: int) -> FiscalNumberFreed:
    return FiscalNumberFreed(order_id=ORDER, seller_id=SELLER, number=number, year=2026)


def test_numbers_that_the_operator_has_are_not_given_out() -> None:
    given(evolve_book, number_given(1), number_given(2, "lost"), number_given(3, "lost too")).when(
        lambda book: [receipts.give_number(book, ORDER, SELLER, 2026)]
    ).then(number_given(4))


def test_numbers_that_nobody_has_come_first_and_each_once() -> None:
    events: list[Event] = [
        number_given(1),
        number_given(10**9, "lost"),
        number_given(3, "lost too"),
        freed(1),
    ]
    numbers = []
    for _ in range(4):
        next_one = receipts.give_number(fold(evolve_book, *events), ORDER, SELLER, 2026)
        events.append(next_one)
        numbers.append(next_one.number)
    assert numbers == [1, 2, 4, 5]


def test_a_receipt_whose_number_is_anothers_goes_by_the_next_one() -> None:
    renumbered = FiscalReceiptRenumbered(
        order_id=ORDER, seller_id=SELLER, number=8, year=2026, previous_number=7
    )
    given(evolve, REQUESTED).when(
        lambda receipt: [receipts.renumber(receipt, number_given(8))]
    ).then(renumbered)
    after = given(evolve, REQUESTED, FAILED, renumbered)
    after.when(lambda receipt: receipts.mark_created(receipt, URL)).then(
        FiscalReceiptCreated(
            order_id=ORDER,
            seller_id=SELLER,
            number=8,
            year=2026,
            amount_cents=1999,
            currency="USD",
            url=URL,
        )
    )


def test_what_the_operator_has_of_an_order_is_its_receipt_whatever_was_known() -> None:
    assert receipts.find(None, found(7)) == ([number_given(7)], [found(7)])
    requested, created = fold(evolve, REQUESTED), fold(evolve, REQUESTED, CREATED)
    assert receipts.find(requested, found(7)) == ([], [found(7)])
    assert receipts.find(requested, found(9)) == ([number_given(9)], [found(9)])
    assert receipts.find(created, found(7)) == ([], [])
    assert receipts.find(created, found(9)) == ([number_given(9)], [found(9)])
    assert receipts.find(fold(evolve, found(7)), found(7)) == ([], [])


def test_what_was_found_is_created_under_its_number_and_of_its_year() -> None:
    receipt = fold(evolve, REQUESTED, FAILED, found(2, year=2027, cents=5))
    assert (receipt.status, receipt.number, receipt.year, receipt.amount_cents) == (
        "CREATED",
        2,
        2027,
        5,
    )
    assert receipts.mark_failed(receipt, "late", 5) == receipts.mark_created(receipt, URL) == []
