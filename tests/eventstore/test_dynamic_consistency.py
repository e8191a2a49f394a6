"""The well-known examples of rules that cross streams (https://dcb.events/examples/), kept by
versions, reads, claims and keys. In each, several processes decide at once, and the rule holds:
docs/consistency.md."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import TypeVar
from uuid import UUID, uuid4, uuid5

import pytest

from eventstore.codec import Codec
from eventstore.decide import decide
from eventstore.log import AlreadyDone, IdempotencyKey
from eventstore.repository import Repository
from eventstore.unit_of_work import UnitOfWork
from tests.eventstore.conftest import OpenLog
from tests.support.events import campus
from tests.support.events.campus import (
    COURSE,
    INVOICE,
    NUMBERS,
    PRODUCT,
    PURCHASE,
    SIGN_UP,
    STUDENT,
    USERNAME,
    CourseDefined,
    CourseJoined,
    InvoiceIssued,
    NameClaimed,
    NameReleased,
    NumberGiven,
    Ordered,
    PriceSet,
    SeatTaken,
    SignUpConfirmed,
    SignUpStarted,
)

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

R = TypeVar("R")


class Refused(Exception):
    """A rule forbids it."""


@pytest.fixture
def codec() -> Codec:
    return campus.CODEC


@pytest.fixture
async def processes(open_log: OpenLog) -> AsyncIterator[list[Repository]]:
    """Three processes on one log, each with its own cache."""
    async with AsyncExitStack() as stack:
        logs = [await stack.enter_async_context(open_log()) for _ in range(3)]
        yield [Repository(log) for log in logs]


async def at_once(
    processes: list[Repository], calls: Sequence[Callable[[Repository], Awaitable[R]]]
) -> list[R]:
    """Make these calls at once, by different processes in turn. Returns the results of those that
    were not refused."""
    made = (call(processes[n % len(processes)]) for n, call in enumerate(calls))
    found = await asyncio.gather(*made, return_exceptions=True)
    results: list[R] = []
    for each in found:
        if isinstance(each, BaseException):
            if not isinstance(each, Refused):
                raise each
        else:
            results.append(each)
    return results


# -- a course has so many seats, a student may join so many courses --------------------------------

MOST_COURSES = 3


async def join(repository: Repository, course_id: UUID, student_id: UUID) -> None:
    """Both rules in one decision: it appends to both streams, at the versions it has seen."""

    async def decision(unit: UnitOfWork) -> None:
        course = await unit.get(COURSE, course_id)
        student = await unit.load(STUDENT, student_id)
        if student_id in course.students or len(course.students) == course.seats:
            raise Refused
        if student is not None and student.courses == MOST_COURSES:
            raise Refused
        unit.emit(course_id, [SeatTaken(student_id)])
        unit.emit(student_id, [CourseJoined(course_id)])

    await decide(repository, decision)


async def define_course(repository: Repository, seats: int) -> UUID:
    course_id = uuid4()

    async def decision(unit: UnitOfWork) -> None:
        unit.create(COURSE, course_id, [CourseDefined(seats)])

    await decide(repository, decision)
    return course_id


async def test_no_course_has_more_students_than_seats(processes: list[Repository]) -> None:
    course_id = await define_course(processes[0], seats=4)
    students = [uuid4() for _ in range(9)]
    joined = await at_once(
        processes, [partial(join, course_id=course_id, student_id=each) for each in students]
    )
    assert len(joined) == 4
    course = await processes[2].state(COURSE, course_id)
    assert course is not None
    assert len(course.students) == 4


async def test_no_student_joins_more_courses_than_allowed(processes: list[Repository]) -> None:
    student_id = uuid4()
    courses = [await define_course(processes[0], seats=9) for _ in range(6)]
    joined = await at_once(
        processes, [partial(join, course_id=each, student_id=student_id) for each in courses]
    )
    assert len(joined) == MOST_COURSES
    seats = [await processes[1].state(COURSE, course_id) for course_id in courses]
    assert sum(student_id in course.students for course in seats if course) == MOST_COURSES


# -- a user name is unique, and free again some days after it was given up -------------------------

KEPT_FREE = timedelta(days=3)
NAMES = UUID("0b3f1c52-54c5-4d4e-8f0a-6a5f0d2f4b10")


async def claim(repository: Repository, name: str, now: datetime) -> UUID:
    """The name is a stream, whose id is derived from it: there is one, whoever claims it."""
    account_id, stream = uuid4(), uuid5(NAMES, name.casefold())

    async def decision(unit: UnitOfWork) -> UUID:
        username = await unit.load(USERNAME, stream)
        if username is not None:
            released = username.released_at
            if released is None or now < released + KEPT_FREE:
                raise Refused
        unit.emit(stream, [NameClaimed(account_id)])
        return account_id

    return (await decide(repository, decision))[0]


async def release(repository: Repository, name: str, now: datetime) -> None:
    stream = uuid5(NAMES, name.casefold())

    async def decision(unit: UnitOfWork) -> None:
        await unit.get(USERNAME, stream)
        unit.emit(stream, [NameReleased(now)])

    await decide(repository, decision)


async def test_a_name_is_claimed_by_one(processes: list[Repository]) -> None:
    names = ["ana", "ANA", "Ana", "ana", "aNa"]
    assert (
        len(await at_once(processes, [partial(claim, name=each, now=NOW) for each in names])) == 1
    )


async def test_a_name_that_was_given_up_is_free_after_some_days(
    processes: list[Repository],
) -> None:
    await claim(processes[0], "ana", NOW)
    await release(processes[1], "ana", NOW)
    early, late = NOW + KEPT_FREE - MINUTE, NOW + KEPT_FREE
    assert await at_once(processes, [partial(claim, name="ana", now=early)] * 3) == []
    assert len(await at_once(processes, [partial(claim, name="ana", now=late)] * 3)) == 1


# -- invoices are numbered without a gap -----------------------------------------------------------

SERIES = UUID("5f0b7d0e-2d0a-4a6e-9a51-0c1f5b3d7a20")


async def invoice(repository: Repository) -> int:
    """The series is a stream: the number after its last one is given with the invoice, or not at
    all."""
    invoice_id = uuid4()

    async def decision(unit: UnitOfWork) -> int:
        series = await unit.load(NUMBERS, SERIES)
        number = 1 if series is None else series.last + 1
        unit.emit(SERIES, [NumberGiven(number, invoice_id)])
        unit.create(INVOICE, invoice_id, [InvoiceIssued(number)])
        return number

    return (await decide(repository, decision))[0]


async def test_invoices_have_all_numbers_once(processes: list[Repository]) -> None:
    numbers = await at_once(processes, [invoice] * 12)
    assert sorted(numbers) == list(range(1, 13))


# -- a sign-up is confirmed by its code, once, and in time -----------------------------------------

CODE_TTL = 60 * MINUTE


async def start_sign_up(repository: Repository, code: str) -> UUID:
    sign_up_id = uuid4()

    async def decision(unit: UnitOfWork) -> None:
        unit.create(SIGN_UP, sign_up_id, [SignUpStarted(code, NOW)])

    await decide(repository, decision)
    return sign_up_id


async def confirm(repository: Repository, sign_up_id: UUID, code: str, now: datetime) -> None:
    async def decision(unit: UnitOfWork) -> None:
        sign_up = await unit.get(SIGN_UP, sign_up_id)
        assert sign_up.at is not None
        if sign_up.confirmed or sign_up.code != code or now > sign_up.at + CODE_TTL:
            raise Refused
        unit.emit(sign_up_id, [SignUpConfirmed()])

    await decide(repository, decision)


async def test_a_code_confirms_once_and_in_time(processes: list[Repository]) -> None:
    sign_up_id = await start_sign_up(processes[0], "123456")

    async def tries(code: str, now: datetime) -> int:
        calls = [partial(confirm, sign_up_id=sign_up_id, code=code, now=now)] * 6
        return len(await at_once(processes, calls))

    assert await tries("654321", NOW) == 0
    assert await tries("123456", NOW + CODE_TTL + MINUTE) == 0
    assert await tries("123456", NOW + CODE_TTL) == 1


# -- an order is taken at the price that was shown, for some minutes after it has changed ----------

GRACE = 10 * MINUTE


async def set_price(repository: Repository, product_id: UUID, cents: int, now: datetime) -> None:
    async def decision(unit: UnitOfWork) -> None:
        await unit.load(PRODUCT, product_id)
        unit.emit(product_id, [PriceSet(cents, now)])

    await decide(repository, decision)


async def order(
    repository: Repository,
    shown: dict[UUID, int],
    now: datetime,
    *,
    meanwhile: Callable[[], Awaitable[None]] | None = None,
) -> int:
    """The prices are only read. The append names the versions that were read: if another price has
    come meanwhile, the decision runs again."""
    order_id = uuid4()

    async def decision(unit: UnitOfWork) -> int:
        nonlocal meanwhile
        for product_id, cents in shown.items():
            product = await unit.get(PRODUCT, product_id)
            if cents not in _valid(product.prices, now):
                raise Refused
        if meanwhile is not None:
            happens, meanwhile = meanwhile, None
            await happens()
        unit.create(PURCHASE, order_id, [Ordered(sum(shown.values()))])
        return sum(shown.values())

    return (await decide(repository, decision))[0]


def _valid(prices: tuple[tuple[datetime, int], ...], now: datetime) -> set[int]:
    """The latest price, and those that it has replaced not long ago."""
    replaced = [(cents, until) for (_, cents), (until, _) in pairwise(prices)]
    return {prices[-1][1], *(cents for cents, until in replaced if now < until + GRACE)}


async def test_an_order_is_taken_at_the_shown_prices(processes: list[Repository]) -> None:
    here, there, _ = processes
    book, pen = uuid4(), uuid4()
    await set_price(here, book, 1000, NOW)
    await set_price(here, pen, 200, NOW)
    await set_price(there, book, 1100, NOW + 30 * MINUTE)
    for shown, minutes, taken in [
        ({book: 1000, pen: 200}, 39, True),
        ({book: 1000, pen: 200}, 40, False),
        ({book: 1100, pen: 200}, 40, True),
        ({book: 900, pen: 200}, 31, False),
    ]:
        calls = [partial(order, shown=shown, now=NOW + minutes * MINUTE)]
        assert bool(await at_once(processes, calls)) == taken, (shown, minutes)


async def test_a_price_that_changes_during_the_decision_is_seen(
    processes: list[Repository],
) -> None:
    here, there, _ = processes
    book = uuid4()
    await set_price(here, book, 1000, NOW)
    await here.state(PRODUCT, book)  # it is in the cache

    async def raised() -> None:
        await set_price(there, book, 1100, NOW - 2 * GRACE)  # long ago, as its seller says

    with pytest.raises(Refused):
        await order(here, {book: 1000}, NOW, meanwhile=raised)


# -- a request that is sent again does nothing again -----------------------------------------------


async def place(repository: Repository, key: UUID) -> UUID:
    """The key comes from the client, and is committed with the order."""
    order_id = uuid4()

    async def decision(unit: UnitOfWork) -> UUID:
        unit.create(PURCHASE, order_id, [Ordered(500)])
        unit.record_ids(order_id=order_id)
        return order_id

    try:
        return (await decide(repository, decision, once=IdempotencyKey(key)))[0]
    except AlreadyDone as repeated:
        return UUID(repeated.done.result_ids["order_id"])


async def test_a_request_that_is_sent_again_gets_the_order_that_it_made(
    processes: list[Repository],
) -> None:
    keys = [uuid4(), uuid4()]
    made = await at_once(processes, [partial(place, key=keys[n % 2]) for n in range(10)])
    assert len(made) == 10
    assert len(set(made[::2])) == len(set(made[1::2])) == 1
    events = await processes[0].log.read()
    assert sum(isinstance(each.event, Ordered) for each in events) == 2
