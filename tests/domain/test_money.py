import pytest

from domain.errors import Invalid
from domain.money import CURRENCIES, LARGEST_CENTS, check_amount, check_currency, format_amount
from kit.currencies import EXPONENT, MAX_CENTS


@pytest.mark.parametrize(
    ("amount_cents", "currency", "text"),
    [
        (1999, "USD", "19.99 USD"),
        (5, "EUR", "0.05 EUR"),
        (0, "BRL", "0.00 BRL"),
        (-105, "EUR", "-1.05 EUR"),
        (1500, "JPY", "1500 JPY"),
        (-3, "JPY", "-3 JPY"),
        (12345, "KWD", "12.345 KWD"),
    ],
)
def test_an_amount_reads_with_the_decimals_of_its_currency(
    amount_cents: int, currency: str, text: str
) -> None:
    assert format_amount(amount_cents, currency) == text


@pytest.mark.parametrize("code", ["USD", "BRL", "EUR", "XCG"])
def test_active_currencies_are_accepted(code: str) -> None:
    check_currency(code)


@pytest.mark.parametrize("code", ["usd", "US", "DEM", "XXX", "XAU", "", "HRK", "BGN"])
def test_other_codes_are_no_currency(code: str) -> None:
    with pytest.raises(Invalid, match="invalid_currency"):
        check_currency(code)


def test_every_currency_is_written_in_three_capitals() -> None:
    assert all(len(code) == 3 and code.isalpha() and code.isupper() for code in CURRENCIES)


LARGEST = [
    ("EUR", "1000000.00 EUR"),
    ("USD", "1000000.00 USD"),
    ("KWD", "1000000.000 KWD"),
    ("JPY", "100000000 JPY"),
    ("CLP", "1000000000 CLP"),
    ("IDR", "10000000000.00 IDR"),
    ("VND", "10000000000 VND"),
    ("IQD", "1000000000.000 IQD"),
    ("LBP", "100000000000.00 LBP"),
]


@pytest.mark.parametrize(("currency", "largest"), LARGEST)
def test_the_largest_amount_is_a_million_of_a_euros_order_and_more_of_what_is_worth_less(
    currency: str, largest: str
) -> None:
    most = MAX_CENTS[currency]
    assert format_amount(most, currency) == largest
    check_amount(most, currency)
    with pytest.raises(Invalid, match="invalid_amount"):
        check_amount(most + 1, currency)


def test_every_currency_has_a_largest_amount_of_which_many_fit_into_64_bits() -> None:
    assert CURRENCIES == EXPONENT.keys() == MAX_CENTS.keys()
    assert all(most >= 10 ** (6 + EXPONENT[code]) for code, most in MAX_CENTS.items())
    assert LARGEST_CENTS * 900_000 < 2**63


@pytest.mark.parametrize("currency", sorted(CURRENCIES))
def test_an_amount_may_be_nothing_but_not_less(currency: str) -> None:
    check_amount(0, currency)
    for amount_cents, at_least in [(-1, 0), (0, 1)]:
        with pytest.raises(Invalid, match="invalid_amount"):
            check_amount(amount_cents, currency, at_least=at_least)


def test_an_amount_in_no_currency_is_refused_as_such() -> None:
    with pytest.raises(Invalid, match="invalid_currency"):
        check_amount(1, "XXX")
