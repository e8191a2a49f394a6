"""Amounts and currencies: their limits, and how an amount reads in a text.

An amount is an integer of the currency's smallest unit (cents for USD, yen for JPY), always named
`…_cents`.
"""

from domain.errors import Invalid
from kit.currencies import EXPONENT, MAX_CENTS

CURRENCIES = frozenset(EXPONENT)

LARGEST_CENTS = max(MAX_CENTS.values())
"""The largest amount of any currency. The sum of some 900,000 of them fits into 64 bits."""


def check_currency(code: str) -> None:
    """Raises Invalid("invalid_currency") unless the code is an active ISO 4217 one, in capitals."""
    if code not in CURRENCIES:
        raise Invalid("invalid_currency", f"{code!r} is not an ISO 4217 currency")


def check_amount(amount_cents: int, currency: str, *, at_least: int = 0) -> None:
    """Raises Invalid: invalid_currency; invalid_amount unless at_least ≤ amount ≤ the currency's
    maximum."""
    check_currency(currency)
    most = MAX_CENTS[currency]
    if not at_least <= amount_cents <= most:
        detail = (
            f"an amount in {currency} lies between {at_least} and {most}, that is"
            f" {format_amount(most, currency)}"
        )
        raise Invalid("invalid_amount", detail)


def format_amount(amount_cents: int, currency: str) -> str:
    """An amount for people: `19.99 USD`, `1500 JPY`, `-0.05 EUR`."""
    decimals = EXPONENT.get(currency, 2)
    if not decimals:
        return f"{amount_cents} {currency}"
    whole, rest = divmod(abs(amount_cents), 10**decimals)
    sign = "-" if amount_cents < 0 else ""
    return f"{sign}{whole}.{rest:0{decimals}} {currency}"
