"""What was typed about a game, as the API takes it."""

from datetime import date
from typing import Any

import msgspec

from kit.currencies import EXPONENT, MAX_CENTS
from web import money
from web.countries import COUNTRIES
from web.forms import Form
from web.sell.answers import SellersGame
from web.shop.answers import Money

TEXTS = ("sku", "title", "publisher", "category")
WORDS = ("genres", "tags", "platforms")

_REGIONS = frozenset({"*", *(code for code, _ in COUNTRIES)})


def listing_of(form: Form) -> dict[str, Any]:
    """The fields of the form about the game itself. Those that were emptied are empty."""
    body: dict[str, Any] = {name: form.text(name) for name in TEXTS}
    body["description"] = form.text("description").replace("\r\n", "\n")
    body |= {name: words_of(form.text(name)) for name in WORDS}
    if day := form.text("release_date"):
        body["release_date"] = day
    return body


def words_of(text: str) -> list[str]:
    """Words that are separated by commas, each once."""
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def new_price_of(form: Form) -> list[dict[str, Any]]:
    """The price of a new game, valid everywhere; no price if none was typed. An invalid one is an
    error in the form."""
    price = _price(form, "", "amount", "currency")
    return [] if price is None else [price]


def prices_of(form: Form) -> list[dict[str, Any]]:
    """The prices in the rows of a form; rows without an amount are left out. An invalid price is an
    error in the form, in its row, as the API names no row."""
    rows = (_price(form, *names(row)) for row in range(rows_of(form)))
    return [price for price in rows if price is not None]


def rows_of(form: Form) -> int:
    """How many rows of prices were sent."""
    row = 0
    while names(row)[0] in form:
        row += 1
    return row


def names(row: int) -> tuple[str, str, str]:
    """The fields of a row of prices: region, amount, currency."""
    return f"region.{row}", f"amount.{row}", f"currency.{row}"


def _price(form: Form, region: str, amount: str, currency: str) -> dict[str, Any] | None:
    """The price in these fields; without a field for the region, it holds everywhere."""
    if not form.text(amount):
        return None
    where, code = form.text(region).upper() or "*", form.text(currency).upper()
    amount_cents = _amount(form, amount, code)
    if where not in _REGIONS:
        form.errors[region] = "This is neither a country's code, such as DE, nor *."
    if code not in EXPONENT:
        form.errors[currency] = "This is not a currency's code, such as USD."
    elif amount_cents is None:
        form.errors[amount] = f"This is not an amount in {code}."
    elif amount_cents > MAX_CENTS[code]:
        form.errors[amount] = f"At most {money.shown(MAX_CENTS[code], code)}."
    return {"region": where, "amount_cents": amount_cents, "currency": code}


def _amount(form: Form, name: str, currency: str) -> int | None:
    amount_cents = money.typed(form.text(name), currency) if currency else None
    return None if amount_cents is None or amount_cents < 0 else amount_cents


def preview_of(game: SellersGame, form: Form) -> SellersGame:
    """The game as it would be with what was typed. A field that is not valid stays as it is."""
    listing = {**listing_of(form), "release_date": _day(form) or game.release_date}
    shown = msgspec.structs.replace(game, **listing)
    if "kind" in form:
        shown = msgspec.structs.replace(shown, kind=form.text("kind"))
    if "amount" in form:
        currency = form.text("currency")
        amount_cents = _amount(form, "amount", currency)
        price = None if amount_cents is None else Money(amount_cents, currency)
        shown = msgspec.structs.replace(shown, price=price)
    return shown


def _day(form: Form) -> date | None:
    try:
        return date.fromisoformat(form.text("release_date"))
    except ValueError:
        return None
