"""`ludoteca whatif` decides again what a real shop has recorded, and writes nothing."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from domain.ledger import BUYER_EXTERNAL, CLEARING, REVENUE, seller_account, wallet_account
from runtime.output.console import Code
from tests.support.shops.commands import Ludoteca, Shop
from tests.support.shops.customers import ADDRESS
from tests.support.shops.manual import ADMIN, BY_WALLET, VISA, Till, open_till, ordered

EVER = "2020-01-01"
MONTH = f"{datetime.now(UTC):%Y-%m}"


class Sold(NamedTuple):
    ann: str
    """The account of the seller of a game for 10.01, of which 3.34 were refunded, and of a board
    game for 5.00 of which three were sold."""
    bob: str
    """The account of the seller of a board game for 15.00, in the same order."""
    wallet: str
    board_game: UUID


@pytest.fixture
def sold(shop: Shop, tmp_path: Path) -> Sold:
    return asyncio.run(_sell(shop.url, tmp_path))


async def _sell(url: str, home: Path) -> Sold:
    async with open_till(url, home) as till:
        buyer, ann, bob = [
            await till.person(kind) for kind in ("BUYER", "SELLER", "SELLER")
        ]  # fmt: skip
        wallet = await till.wallet(buyer, 5000)
        by_card = await till.commands.orders.place(buyer, await till.game(1001, ann), VISA)
        await till.settle()
        await till.commands.orders.refund(ADMIN, by_card.value.order_id, 334, "late")
        await till.settle()
        parcels = await till.physical_game(7, 500, ann), await till.physical_game(20, 1500, bob)
        for game, quantity in zip(parcels, (3, 1), strict=True):
            await till.commands.carts.add(buyer, game, quantity)
        await ordered(till.commands.carts.check_out(buyer, BY_WALLET, ADDRESS))
        await till.settle()
        await _only_then(till)
        return Sold(
            seller_account(ann.person()),
            seller_account(bob.person()),
            wallet_account(wallet),
            parcels[0],
        )


async def _only_then(till: Till) -> None:
    """Nothing is left to be posted."""
    assert sum((await till.accounts()).values()) == 0


def differences(report: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """By account, what was posted and what would have been, all in this month."""
    assert {each["month"] for each in report["ledger"]} <= {MONTH}
    for each in report["ledger"]:
        assert each["difference_cents"] == each["would_be_cents"] - each["posted_cents"]
    return {
        each["account_id"]: (each["posted_cents"], each["would_be_cents"])
        for each in report["ledger"]
    }


def test_another_fee_to_the_cent(ludoteca: Ludoteca, shop: Shop, sold: Sold) -> None:
    """10.01: 100 cents become 80 of fee, and of the refund 33 become 27. 15.00 of each board game:
    150 become 120, for each seller."""
    head = shop.ask("SELECT max(position) FROM log.events")
    report = ludoteca.json("whatif", "--set", "platform_fee_bps=800", "--from", EVER)
    assert differences(report) == {
        sold.ann: (901 - 301 + 1350, 921 - 307 + 1380),
        sold.bob: (1350, 1380),
        REVENUE: (100 - 33 + 300, 80 - 27 + 240),
    }
    assert (report["postings_decided_again"], report["postings_that_differ"]) == (3, 3)
    assert report["position"] == head == shop.ask("SELECT max(position) FROM log.events")


def test_amounts_are_aligned_right(ludoteca: Ludoteca, sold: Sold) -> None:
    told = ludoteca("whatif", "--set", "platform_fee_bps=800", "--from", EVER).stdout
    rows = [line for line in told.splitlines() if "USD" in line or "would be" in line]
    assert len(rows) > 3
    assert len({len(line.rstrip()) for line in rows}) == 1, told


def test_the_fee_that_was_makes_no_difference(ludoteca: Ludoteca, sold: Sold) -> None:
    report = ludoteca.json("whatif", "--set", "platform_fee_bps=1000", "--from", EVER)
    assert (report["ledger"], report["postings_that_differ"]) == ([], 0)
    told = ludoteca("whatif", "--set", "LUDOTECA_PLATFORM_FEE_BPS=1000", "--from", EVER)
    assert "the ledger would be the same" in told.stdout
    assert "3 postings decided again, of which 0 would differ" in told.stderr
    assert sold.ann not in told.stdout


def test_prices_without_tax(ludoteca: Ludoteca, sold: Sold, tmp_path: Path) -> None:
    """Of 25 %: 10.01 becomes 8.01 (80 of fee), and of its refund, 2.67, the platform gives 27.
    From the wallet 30.00 become 24.00."""
    rates = tmp_path / "rates.csv"
    rates.write_text("region,tax_bps\n*,2500\n")
    report = ludoteca.json("whatif", "--set", f"tax_free_prices={rates}", "--from", EVER)
    assert differences(report) == {
        sold.ann: (901 - 301 + 1350, 721 - 240 + 1080),
        sold.bob: (1350, 1080),
        REVENUE: (100 - 33 + 300, 80 - 27 + 240),
        BUYER_EXTERNAL: (-1001 + 334, -801 + 267),
        sold.wallet: (-3000, -2400),
    }
    assert CLEARING not in differences(report)


def test_only_orders_of_that_time_are_decided_again(ludoteca: Ludoteca, sold: Sold) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    for period in (("--from", tomorrow), ("--from", EVER, "--until", "2021-01-01")):
        report = ludoteca.json("whatif", "--set", "platform_fee_bps=0", *period)
        assert (report["ledger"], report["postings_decided_again"]) == ([], 0)


def test_another_threshold_of_low_stock(ludoteca: Ludoteca, sold: Sold) -> None:
    """Of seven units an order took three: four are left, at a threshold of five."""
    report = ludoteca.json("whatif", "--set", "low_stock=3", "--from", EVER)
    (notice,) = report["low_stock_notices"]
    assert (notice["product_id"], notice["available"]) == (str(sold.board_game), 4)
    assert not notice["would_be_sent"]
    report = ludoteca.json("whatif", "--set", "low_stock=5", "--from", EVER)
    assert report["low_stock_notices"] == []
    told = ludoteca("whatif", "--set", "low_stock=19", "--from", EVER)
    assert told.stdout.count("would be sent") == 1  # of the other game, from 20 to 19
    assert told.stdout.count("would not be sent") == 1  # seven are low already


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "platform_fee=800"], "did you mean platform_fee_bps?"),
        (["--set", "cart_ttl_seconds=60"], "no recorded decision"),
        (["--set", "platform_fee_bps"], "not SETTING=VALUE"),
        (["--set", "platform_fee_bps=10001"], "no number from 0 to 10000"),
        (
            ["--set", "tax_free_prices=/none.csv"],
            "/none.csv cannot be read: No such file",
        ),
        (["--set", "low_stock=1", "--until", "2019-01-01"], "--until must be after --from"),
        (["--set", "low_stock=1", "--until", "soon"], "no time such as"),
    ],
    ids=["unknown", "independent", "no value", "out of range", "no file", "backwards", "no time"],
)
def test_what_cannot_be_decided_again_is_told(
    ludoteca: Ludoteca, arguments: list[str], said: str
) -> None:
    result = ludoteca("whatif", *arguments, "--from", EVER)
    assert result.exit_code == Code.USAGE
    assert said in " ".join(result.output.split())
