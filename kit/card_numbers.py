"""Tells card numbers in a text from other digits: they are nobody's to keep but the payment
provider's."""

import re
from collections.abc import Iterator, Sequence

_OFTEN, _LONG, _MAESTRO = frozenset({16}), frozenset(range(16, 20)), frozenset(range(12, 20))

ISSUERS: Sequence[tuple[str, str, frozenset[int]]] = (
    ("34", "34", frozenset({15})),  # American Express
    ("37", "37", frozenset({15})),
    ("300", "305", frozenset(range(14, 20))),  # Diners Club
    ("3095", "3095", frozenset(range(14, 20))),
    ("36", "36", frozenset(range(14, 20))),
    ("38", "39", frozenset(range(14, 20))),
    ("3528", "3589", _LONG),  # JCB
    ("4", "4", frozenset({13, 16, 19})),  # Visa
    ("2200", "2204", _LONG),  # Mir
    ("2221", "2720", _OFTEN),  # Mastercard
    ("51", "55", _OFTEN),
    ("5018", "5018", _MAESTRO),  # Maestro
    ("5020", "5020", _MAESTRO),
    ("5038", "5038", _MAESTRO),
    ("5893", "5893", _MAESTRO),
    ("6304", "6304", _MAESTRO),
    ("6759", "6759", _MAESTRO),
    ("6761", "6763", _MAESTRO),
    ("5041", "5041", _OFTEN),  # Elo
    ("5066", "5067", _OFTEN),
    ("5090", "5099", _OFTEN),
    ("6277", "6277", _OFTEN),
    ("6362", "6363", _OFTEN),
    ("606282", "606282", frozenset({16, 19})),  # Hipercard
    ("6011", "6011", _LONG),  # Discover
    ("644", "649", _LONG),
    ("65", "65", _LONG),  # Discover, RuPay, Elo
    ("60", "60", _OFTEN),  # RuPay
    ("62", "62", _LONG),  # UnionPay
    ("81", "82", _LONG),  # UnionPay, RuPay
)
"""Each issuer's first and last prefix, and the lengths of its numbers
(en.wikipedia.org/wiki/Payment_card_number)."""

_UUID = re.compile(r"(?<![^\W_])[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![^\W_])", re.IGNORECASE)
_BETWEEN = "[\\s._/\u2010-\u2015\u2212\uff0d-]{1,3}"
_ROW = rf"\d{{4,}}(?:{_BETWEEN}\d{{4,}})*(?:{_BETWEEN}\d{{3}})?"
_ROWS = re.compile(rf"(?<![^\W_])(?<!\d\.)(?<!\+){_ROW}(?![^\W_])")
"""Digits of any script, unbroken or in groups of at least four (the last three of nineteen digits
may stand alone), as printed on cards. Digits next to letters, or after a +, are not card
numbers."""
_GLUED_ROWS = re.compile(rf"(?<!\d){_ROW}(?!\d)")
"""The same pattern, also matching next to letters."""

_GROUPS_AT_MOST, _SHORTEST, _LONGEST = 5, 12, 19
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
"""For each digit, the digit sum of its double (Luhn's check)."""


def has_card_number(text: str) -> bool:
    """Whether a text contains a card number. UUIDs and barcodes (EAN-13) do not count."""
    return any(
        is_card_number(digits) and not _is_barcode(digits) for digits in _candidates(_ROWS, text)
    )


def is_card_token(token: str) -> bool:
    """Whether a payment method's token contains a card number, even one next to letters."""
    return any(map(is_card_number, _candidates(_GLUED_ROWS, token)))


def is_card_number(digits: str) -> bool:
    """Whether digits have an issuer's prefix and length, and pass Luhn's check (ISO/IEC 7812)."""
    return (
        len(digits) >= _SHORTEST
        and any(
            first <= digits[: len(first)] <= last and len(digits) in lengths
            for first, last, lengths in ISSUERS
        )
        and _luhn([int(digit) for digit in digits])
    )


def _luhn(digits: list[int]) -> bool:
    return (sum(digits[::-2]) + sum(_DOUBLED[digit] for digit in digits[-2::-2])) % 10 == 0


def _is_barcode(digits: str) -> bool:
    """Whether the digits are an EAN-13 barcode: thirteen, with a valid GS1 check digit."""
    return (
        len(digits) == 13
        and (sum(map(int, digits[::2])) + 3 * sum(map(int, digits[1::2]))) % 10 == 0
    )


def _candidates(rows: re.Pattern[str], text: str) -> Iterator[str]:
    """Yield the digits, in ASCII, of every run of whole groups that is short enough for a card
    number."""
    for row in rows.finditer(_UUID.sub(" ", text)):
        groups = re.findall(r"\d+", row[0])
        for start in range(len(groups)):
            digits = ""
            for group in groups[start : start + _GROUPS_AT_MOST]:
                if len(digits) + len(group) > _LONGEST:
                    break
                digits += "".join(str(int(digit)) for digit in group)
                yield digits
