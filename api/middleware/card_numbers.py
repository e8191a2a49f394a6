"""Refuse card numbers: clients send them to the payment provider, and only the provider's token to
this API.

Checked are the fields that could hold a card number: a payment method's token and an operator's
note. Fields with numbers of their own (SKUs, barcodes, tracking numbers, keys) are not checked.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

from domain.errors import Invalid
from kit.card_numbers import has_card_number, is_card_token

_LOOKED_AT = 1000
"""How many texts of a refused body are checked, and how many letters of each. Enough for honest
mistakes."""


def card_data_refused() -> Invalid:
    """The refusal of a card number, which does not quote the number."""
    return Invalid(
        "card_data_refused",
        "this looks like a card number: send the provider's token for the card instead",
    )


def without_card_number(note: str) -> str:
    """Validate a note. Raises Invalid("card_data_refused")."""
    if has_card_number(note):
        raise card_data_refused()
    return note


def card_token(token: str) -> str:
    """Validate a payment method's token. Raises Invalid("card_data_refused")."""
    if is_card_token(token):
        raise card_data_refused()
    return token


def contain_card_number(errors: Iterable[Mapping[str, Any]]) -> bool:
    """Whether any validation error is about a card number, in a value or a field name. Only unknown
    fields and payment methods are checked. Such errors must not be reported, as they quote their
    input."""
    suspects = (
        each
        for each in errors
        if each["type"] == "extra_forbidden" or "payment_method" in each["loc"]
    )
    texts = (text for each in suspects for text in _texts([each.get("input"), *each["loc"]]))
    return any(is_card_token(text[:_LOOKED_AT]) for text in islice(texts, _LOOKED_AT))


def _texts(values: Iterable[object]) -> Iterator[str]:
    """Yield all texts and numbers of JSON values at any depth, field names included."""
    entered = [iter(values)]
    while entered:
        for value in entered[-1]:
            if isinstance(value, Mapping):
                entered.append(chain.from_iterable(value.items()))
                break
            if isinstance(value, list):
                entered.append(iter(value))
                break
            if isinstance(value, str):
                yield value
            elif isinstance(value, int | float):
                yield f"{value:.0f}" if isinstance(value, float) else str(value)
        else:
            entered.pop()
