"""Field types of request bodies, and the base classes of bodies and answers."""

from datetime import UTC, date, datetime
from typing import Annotated, Generic, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)

from api.middleware.card_numbers import card_token, without_card_number
from domain.errors import Invalid
from domain.inventory import MAX_QUANTITY, check_quantity
from domain.money import LARGEST_CENTS, check_currency
from domain.regions import check_price_region, is_country
from domain.text import REORDERS, breaks_line, is_visible, reorders
from domain.times import EARLIEST, FIRST_DAY, LAST_DAY, LATEST

T = TypeVar("T")

MAX_TYPED_EMAIL = 1000
"""In characters. No address is that long; longer input is refused without parsing it."""


class Body(BaseModel):
    """A request body. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Answer(BaseModel):
    """A response body, filled from any object with attributes of these names."""

    model_config = ConfigDict(from_attributes=True)


class Page(Answer, Generic[T]):
    """A page of a list. `next_cursor` is null on the last page."""

    items: list[T]
    next_cursor: str | None = None


def _one_line(text: str) -> str:
    if breaks_line(text):
        raise ValueError("control characters and line breaks are not allowed")
    if reorders(text):
        raise ValueError(REORDERS)
    return text


def _several_lines(text: str) -> str:
    _one_line(text.translate(dict.fromkeys(map(ord, "\t\n\r\u2028\u2029"))))
    return text


def _something_to_see(text: str) -> str:
    if not is_visible(text):
        raise ValueError("this has no visible character")
    return text


def _only_text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("this must be a text")
    return value


def _must_be_bounded_email(value: object) -> object:
    _only_text(value)
    if len(str(value)) > MAX_TYPED_EMAIL:
        raise Invalid("invalid_email", "this is not an e-mail address")
    return value


def _must_be_amount(value: object) -> object:
    if type(value) is not int:  # neither 1.0 nor true
        raise Invalid(
            "invalid_amount", "an amount is a whole number of the currency's smallest unit"
        )
    if not 1 <= value <= LARGEST_CENTS:
        raise Invalid(
            "invalid_amount", f"no amount of any currency is below 1 or above {LARGEST_CENTS}"
        )
    return value


def _must_be_count(value: object) -> object:
    if type(value) is not int or not 0 <= value <= MAX_QUANTITY:
        raise Invalid(
            "invalid_quantity", f"a quantity is a whole number between 0 and {MAX_QUANTITY}"
        )
    return value


def _must_be_quantity(value: object) -> object:
    if type(value) is not int:
        raise Invalid("invalid_quantity", "a quantity is a whole number")
    check_quantity(value)
    return value


def _must_be_currency(value: str) -> str:
    check_currency(value[:16])  # a longer text is invalid as well, and need not be quoted whole
    return value


def _must_be_price_region(value: str) -> str:
    check_price_region(value)
    return value


def _must_be_country(value: str) -> str:
    if not is_country(value):
        raise ValueError("a country is a code of ISO 3166-1 (GB, US, …)")
    return value


def _must_be_rfc_3339(value: object) -> object:
    # seconds since 1970
    if not isinstance(value, str) or value.lstrip("+-").replace(".", "", 1).isdecimal():
        raise ValueError("this must be an RFC 3339 time")
    return value


def _in_utc(at: datetime) -> datetime:
    return at.astimezone(UTC)


_line = AfterValidator(_one_line)
_seen = AfterValidator(_something_to_see)

Word = Annotated[str, Field(min_length=1, max_length=64), _line, _seen]
"""A short text, such as a genre, a SKU or a code."""

SingleLine = Annotated[str, Field(max_length=300), _line]
"""One line of text, which may be empty."""

Email = Annotated[
    str,
    PlainValidator(_must_be_bounded_email),
    WithJsonSchema({"type": "string", "maxLength": MAX_TYPED_EMAIL}),
]
"""An e-mail address as typed. The domain decides whether it is one."""

NonBlank = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300), _line, _seen
]
"""One line with visible content; surrounding whitespace is removed."""

Url = Annotated[str, Field(min_length=1, max_length=2048), _line]
"""A URL, not validated."""

Text = Annotated[str, Field(max_length=4096)]
"""Any text, such as a password."""

Token = Annotated[str, Field(min_length=1, max_length=4096), _line]
"""A text for machines, such as a refresh token."""

Prose = Annotated[str, Field(max_length=20_000), AfterValidator(_several_lines)]
"""Text of several lines."""

Cents = Annotated[int, Field(strict=True, ge=0, le=LARGEST_CENTS)]
"""An amount in the currency's smallest unit; strictly an integer. The domain checks the currency's
own limit."""

Amount = Annotated[
    int, Field(strict=True, ge=1, le=LARGEST_CENTS), BeforeValidator(_must_be_amount)
]
"""A positive amount of `Cents` to be moved. Anything else is refused as `invalid_amount`."""

Count = Annotated[int, Field(strict=True, ge=0, le=MAX_QUANTITY), BeforeValidator(_must_be_count)]
"""A number of units, at least 0. Anything else is refused as `invalid_quantity`."""

Quantity = Annotated[
    int, Field(strict=True, ge=1, le=MAX_QUANTITY), BeforeValidator(_must_be_quantity)
]
"""A requested number of units, at least 1. Anything else is refused as `invalid_quantity`."""

Version = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
"""A version that the client has seen."""

Currency = Annotated[str, AfterValidator(_must_be_currency)]
"""An ISO 4217 code in capitals. Anything else is refused as `invalid_currency`."""

PriceRegion = Annotated[str, AfterValidator(_must_be_price_region)]
"""An ISO 3166-1 alpha-2 country, or `*` for all regions without a price of their own. Anything else
is refused as `invalid_region`."""

Country = Annotated[str, AfterValidator(_must_be_country)]
"""The ISO 3166-1 alpha-2 country of an address."""

Reason = Annotated[SingleLine, Field(min_length=1), _seen, AfterValidator(without_card_number)]
"""An operator's reason. A card number in it is refused as `card_data_refused`."""

REASON = "Why, as recorded with the act."
"""What the API's document says of an operator's reason."""

CardToken = Annotated[Token, AfterValidator(card_token)]
"""The payment provider's token of a card. A card number is refused as `card_data_refused`."""

Day = Annotated[date, Field(ge=FIRST_DAY, le=LAST_DAY), BeforeValidator(_only_text)]
"""A date, such as 2026-03-01, within the range of release dates."""

Moment = Annotated[
    AwareDatetime,
    Field(ge=EARLIEST, le=LATEST),
    AfterValidator(_in_utc),
    BeforeValidator(_must_be_rfc_3339),
]
"""A time in a request: RFC 3339 with a time zone, from 2000 to 2199."""

Time = Annotated[datetime, AfterValidator(_in_utc)]
"""A time in a response: RFC 3339, in UTC, with Z."""
