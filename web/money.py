"""Amounts as people read and type them."""

from decimal import Decimal, DecimalException

from kit.currencies import EXPONENT

_SIGNS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "BRL": "R$", "INR": "₹", "KRW": "₩"}


def shown(amount_cents: int, currency: str) -> str:
    """`$19.99`, `¥1,500`, `-€0.05`, `19.990 KWD`."""
    decimals = EXPONENT.get(currency, 2)
    number = f"{Decimal(abs(amount_cents)).scaleb(-decimals):,.{decimals}f}"
    sign = "-" if amount_cents < 0 else ""
    mark = _SIGNS.get(currency)
    return f"{sign}{mark}{number}" if mark else f"{sign}{number} {currency}"


def plain(amount_cents: int, currency: str) -> str:
    """An amount as a field of a form has it: `19.99`."""
    decimals = EXPONENT.get(currency, 2)
    return f"{Decimal(amount_cents).scaleb(-decimals):.{decimals}f}"


def typed(text: str, currency: str) -> int | None:
    """What was typed, in the currency's smallest unit; None if it is no such amount.

    A point or a comma stands before the decimals. More of them than the currency has are refused,
    even zeros: whoever types 1,000 dollars does not mean one.
    """
    decimals = EXPONENT.get(currency, 2)
    typed = text.strip().replace(",", ".")
    if len(typed.partition(".")[2]) > decimals:
        return None
    try:
        amount = Decimal(typed).scaleb(decimals)
    except DecimalException:
        return None
    if not amount.is_finite() or abs(amount) > 10**18 or amount != amount.to_integral_value():
        return None
    return int(amount)
