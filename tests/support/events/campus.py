"""Events and aggregates of a small university with a shop: what the examples of dynamic consistency
are about (https://dcb.events/examples/)."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

import msgspec

from domain.events import Event
from eventstore.aggregate import Aggregate
from eventstore.codec import Codec


class CourseDefined(Event, frozen=True):
    NAME: ClassVar[str] = "course.defined.v1"
    seats: int


class SeatTaken(Event, frozen=True):
    NAME: ClassVar[str] = "course.seat_taken.v1"
    student_id: UUID


class CourseJoined(Event, frozen=True):
    NAME: ClassVar[str] = "student.joined_course.v1"
    course_id: UUID


class NameClaimed(Event, frozen=True):
    NAME: ClassVar[str] = "username.claimed.v1"
    account_id: UUID


class NameReleased(Event, frozen=True):
    NAME: ClassVar[str] = "username.released.v1"
    at: datetime


class NumberGiven(Event, frozen=True):
    NAME: ClassVar[str] = "invoice_numbers.given.v1"
    number: int
    invoice_id: UUID


class InvoiceIssued(Event, frozen=True):
    NAME: ClassVar[str] = "invoice.issued.v1"
    number: int


class SignUpStarted(Event, frozen=True):
    NAME: ClassVar[str] = "sign_up.started.v1"
    code: str
    at: datetime


class SignUpConfirmed(Event, frozen=True):
    NAME: ClassVar[str] = "sign_up.confirmed.v1"


class PriceSet(Event, frozen=True):
    NAME: ClassVar[str] = "product.price_set.v1"
    cents: int
    at: datetime


class Ordered(Event, frozen=True):
    NAME: ClassVar[str] = "purchase.ordered.v1"
    cents: int


class Course(msgspec.Struct, frozen=True):
    """Its seats, and the students who have one."""

    seats: int = 0
    students: frozenset[UUID] = frozenset()

    def evolve(self, event: Event) -> "Course":
        if isinstance(event, CourseDefined):
            return msgspec.structs.replace(self, seats=event.seats)
        assert isinstance(event, SeatTaken)
        return msgspec.structs.replace(self, students=self.students | {event.student_id})


class Student(msgspec.Struct, frozen=True):
    """How many courses a student has joined."""

    courses: int = 0

    def evolve(self, _: Event) -> "Student":
        return Student(self.courses + 1)


class Username(msgspec.Struct, frozen=True):
    """Who has a name, or since when nobody has it."""

    account_id: UUID | None = None
    released_at: datetime | None = None

    def evolve(self, event: Event) -> "Username":
        if isinstance(event, NameClaimed):
            return Username(event.account_id)
        assert isinstance(event, NameReleased)
        return Username(released_at=event.at)


class Numbers(msgspec.Struct, frozen=True):
    """The last number given."""

    last: int = 0

    def evolve(self, event: Event) -> "Numbers":
        assert isinstance(event, NumberGiven)
        return Numbers(event.number)


class SignUp(msgspec.Struct, frozen=True):
    """A sign-up that is to be confirmed by a code."""

    code: str = ""
    at: datetime | None = None
    confirmed: bool = False

    def evolve(self, event: Event) -> "SignUp":
        if isinstance(event, SignUpStarted):
            return SignUp(event.code, event.at)
        return msgspec.structs.replace(self, confirmed=True)


class Product(msgspec.Struct, frozen=True):
    """The prices so far, the latest last."""

    prices: tuple[tuple[datetime, int], ...] = ()

    def evolve(self, event: Event) -> "Product":
        assert isinstance(event, PriceSet)
        return Product((*self.prices, (event.at, event.cents)))


class Purchase(msgspec.Struct, frozen=True):
    """An order."""

    cents: int = 0


COURSE = Aggregate("course", Course, lambda s, e: (s or Course()).evolve(e))
STUDENT = Aggregate("student", Student, lambda s, e: (s or Student()).evolve(e))
USERNAME = Aggregate("username", Username, lambda s, e: (s or Username()).evolve(e))
NUMBERS = Aggregate("invoice_numbers", Numbers, lambda s, e: (s or Numbers()).evolve(e))
INVOICE = Aggregate("invoice", Numbers, lambda _, e: Numbers(e.number))
SIGN_UP = Aggregate("sign_up", SignUp, lambda s, e: (s or SignUp()).evolve(e))
PRODUCT = Aggregate("product", Product, lambda s, e: (s or Product()).evolve(e))
PURCHASE = Aggregate("purchase", Purchase, lambda _, e: Purchase(e.cents))

CODEC = Codec(
    {
        cls.NAME: cls
        for cls in (
            CourseDefined, SeatTaken, CourseJoined, NameClaimed, NameReleased, NumberGiven,
            InvoiceIssued, SignUpStarted, SignUpConfirmed, PriceSet, Ordered,
        )
    }
)  # fmt: skip
