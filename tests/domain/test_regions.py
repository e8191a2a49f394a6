import pytest

from domain.errors import Invalid
from domain.regions import COUNTRIES, check_price_region, check_region


def test_there_are_as_many_countries_as_iso_3166_has() -> None:
    assert len(COUNTRIES) == 249


@pytest.mark.parametrize("region", ["BR", "GB", "US", "GR", "AX", "TW"])
def test_a_country_is_a_region(region: str) -> None:
    check_region(region)
    check_price_region(region)


@pytest.mark.parametrize(
    "region", ["UK", "EU", "ZZ", "EL", "AN", "XK", "us", "USA", "U1", "", "US\n", "ＵＳ", "x" * 999]
)
def test_only_countries_are_regions(region: str) -> None:
    for check in (check_region, check_price_region):
        with pytest.raises(Invalid, match="invalid_region"):
            check(region)


def test_a_price_may_be_for_everywhere_and_a_person_lives_somewhere() -> None:
    check_price_region("*")
    with pytest.raises(Invalid, match="invalid_region"):
        check_region("*")
