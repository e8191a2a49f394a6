"""Which recorded decisions depend on which setting, and the values to decide them again with."""

import csv
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from domain.regions import ANY_REGION, is_country
from kit.wording import reason


class BadRule(ValueError):
    """The value is not one that the setting may have."""


TaxRates = Mapping[str, int]
"""By region, the tax in basis points that prices contain; `*` is that of all other regions."""


class Rules(msgspec.Struct, frozen=True):
    """What is to be otherwise; None for what stays as it was. It applies to what was decided from
    `since` on, and before `until`."""

    since: datetime
    until: datetime | None = None
    fee_bps: int | None = None
    low_stock: int | None = None
    tax_rates: TaxRates | None = None

    def apply_at(self, time: datetime) -> bool:
        """Whether they apply to a decision of this time."""
        return self.since <= time and (self.until is None or time < self.until)

    @property
    def of_orders(self) -> bool:
        """Whether any is about orders."""
        return self.fee_bps is not None or self.tax_rates is not None


class Dependence(msgspec.Struct, frozen=True):
    """A setting on which recorded decisions depend: the field of Rules, how its value is read, and
    what is decided again."""

    field: str
    read: Callable[[str], Any]
    decides: str


def _number(text: str, most: int) -> int:
    if not text.isdecimal() or len(text) > 20 or int(text) > most:
        raise BadRule(f"{text!r} is no number from 0 to {most}")
    return int(text)


def read_tax_rates(path: str) -> TaxRates:
    """The rates of a CSV file with the columns `region` and `tax_bps`. Raises BadRule."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            records = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeError, csv.Error) as error:
        raise BadRule(f"{path} cannot be read: {reason(error)}") from error
    rates: dict[str, int] = {}
    for number, record in enumerate(records, 2):
        region, rate = record.get("region"), record.get("tax_bps")
        if region is None or rate is None:
            raise BadRule(f"{path}, line {number}: there must be the columns region and tax_bps")
        if region != ANY_REGION and not is_country(region):
            raise BadRule(f"{path}, line {number}: {region!r} is no country code, and not `*`")
        if region in rates:
            raise BadRule(f"{path}, line {number}: a second rate of {region}")
        rates[region] = _number(rate, 10_000)
    if not rates:
        raise BadRule(f"{path} has no rates")
    return rates


DEPENDENCES: Mapping[str, Dependence] = {
    "platform_fee_bps": Dependence(
        "fee_bps",
        lambda text: _number(text, 10_000),
        "the platform's share of each line, fixed when the order is placed; and so what is posted"
        " for its payment, refunds and reversals",
    ),
    "tax_free_prices": Dependence(
        "tax_rates",
        read_tax_rates,
        "the unit prices of orders, as if they were without the tax that a CSV file (region,"
        " tax_bps) names for the order's region; and so payment, refunds and reversals",
    ),
    "low_stock": Dependence(
        "low_stock",
        lambda text: _number(text, 1_000_000),
        "when a seller is told that stock is low: when it was counted, or allocated to an order",
    ),
}
"""By setting, what depends on it. `tax_free_prices` is no setting of the shop: prices are the
sellers'."""
