"""Which prices may be called reduced, and from what."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.catalog import Price
from domain.reductions import MAX_STEPS, WINDOW, PricesFrom, Reduction, priced, reductions

START = datetime(2026, 3, 1, tzinfo=UTC)


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def history(*steps: tuple[float, int] | tuple[float, dict[str, int]]) -> list[PricesFrom]:
    """What a game cost from which day on: everywhere, or by region."""
    found: list[PricesFrom] = []
    for number, costs in steps:
        by_region = costs if isinstance(costs, dict) else {"*": costs}
        prices = tuple(Price(region, cents, "EUR") for region, cents in by_region.items())
        found = priced(found, day(number), prices)
    return found


def test_a_lower_price_is_reduced_from_the_one_before_for_30_days() -> None:
    assert reductions(history((0, 2000), (40, 1500))) == {"*": Reduction(2000, day(70))}


@pytest.mark.parametrize(
    ("steps", "before"),
    [
        ([(0, 1500), (20, 2000), (40, 1500)], None),  # it cost that 20 days ago
        ([(0, 1500), (20, 2000), (40, 1400)], 1500),
        ([(0, 1500), (5, 2000), (40, 1500)], 2000),  # that was 35 days ago
        ([(0, 2000), (10, 1500), (20, 1200)], 1500),
        ([(0, 2000), (10, 2500)], None),
        ([(0, 0), (10, 0)], None),
        ([(0, 20000), (0.1, 2000)], None),  # a correction
        ([(0, 20000), (0.1, 2000), (2, 1500)], 2000),
        ([(0, 1500), (3, 1000), (3.1, 1500), (10, 1200)], None),  # an hour counts, too
        ([(0, 2000)], None),
        ([], None),
    ],
)
def test_it_is_the_lowest_of_the_30_days_before(
    steps: list[tuple[float, int]], before: int | None
) -> None:
    found = reductions(history(*steps)).get("*")
    assert (found and found.from_cents) == before


def test_a_change_elsewhere_neither_ends_nor_renews_a_reduction() -> None:
    steps = history((0, {"*": 2000}), (10, {"*": 1500}), (20, {"*": 1500, "DE": 1800}))
    found = reductions(steps)
    assert found["*"] == Reduction(2000, day(40))
    # Germany paid 1500 before: what others still pay less for is not reduced there
    assert found["DE"] is None


def test_a_region_that_loses_its_own_price_is_compared_with_that() -> None:
    steps = history((0, {"*": 3000, "DE": 1000}), (5, {"*": 2000}))
    assert reductions(steps) == {"*": Reduction(3000, day(35)), "DE": None}


def test_another_currency_is_not_compared() -> None:
    before = priced([], day(0), (Price("*", 2000, "USD"),))
    assert reductions(priced(before, day(1), (Price("*", 1500, "EUR"),))) == {}


def test_prices_that_change_all_the_time_are_not_called_reduced() -> None:
    steps = history(*((number, 5000 - number) for number in range(MAX_STEPS + 5)))
    assert len(steps) == MAX_STEPS
    assert reductions(steps) == {}


@given(st.lists(st.tuples(st.floats(0, 25), st.integers(0, 5)), min_size=1, max_size=12))
def test_what_is_forgotten_changes_nothing_that_is_shown(gaps: list[tuple[float, int]]) -> None:
    at = 0.0
    whole: list[PricesFrom] = []
    kept: list[PricesFrom] = []
    for gap, cents in gaps:
        at += gap
        prices = (Price("*", cents, "EUR"),)
        whole.append(PricesFrom(day(at), prices))
        kept = priced(kept, day(at), prices)
    now = day(at)
    found, wanted = reductions(kept).get("*"), reductions(whole).get("*")
    if wanted is not None and wanted.until > now:
        assert found == wanted
    elif found is not None:
        assert found.until <= now
    assert all(after.at > now - 2 * WINDOW for _, after in pairwise(kept))
