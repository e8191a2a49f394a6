import pytest

from domain.errors import Invalid
from domain.money import CURRENCIES, MAX_AMOUNT_CENTS, check_amount, check_currency, format_amount


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
def test_an_amount_reads_with_the_decimals_of_its_currency(amount_cents: int, currency: str, text: str) -> None:
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


@pytest.mark.parametrize("amount_cents", [0, 1, MAX_AMOUNT_CENTS])
def test_an_amount_may_be_nothing_up_to_the_maximum(amount_cents: int) -> None:
    check_amount(amount_cents)


@pytest.mark.parametrize("amount_cents", [-1, MAX_AMOUNT_CENTS + 1])
def test_an_amount_outside_is_refused(amount_cents: int) -> None:
    with pytest.raises(Invalid, match="invalid_amount"):
        check_amount(amount_cents)


def test_an_amount_that_must_be_something_is_not_nothing() -> None:
    with pytest.raises(Invalid, match="invalid_amount"):
        check_amount(0, at_least=1)
