"""docs/payments.md: each test card does what its row says, and the page lists all of them."""

import re
from pathlib import Path

import pytest

from adapters.payments.simulator import intents
from adapters.payments.simulator.cards import ALL
from adapters.payments.simulator.intents import ApiError, PaymentIntent

PAGE = (Path(__file__).parents[2] / "docs" / "payments.md").read_text()
NEW = PaymentIntent("pi_1", 1999, "usd", "", 0, {})


def rows() -> list[tuple[str, str, str]]:
    """Each card of the table, with its outcome and its codes."""
    table = [
        line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| `pm_")
    ]
    return [
        (card, what, (code or [""])[0].rstrip(" |"))
        for cards, what, *code in table
        for card in names(cards)
    ]


def names(cell: str) -> list[str]:
    return re.findall(r"`(pm_[^`]+)`", cell)


def test_all_cards_are_in_the_table_once() -> None:
    assert sorted(card for card, _, _ in rows()) == sorted(ALL)


@pytest.mark.parametrize(("card", "what", "code"), rows(), ids=[card for card, _, _ in rows()])
def test_a_card_does_what_its_row_says(card: str, what: str, code: str) -> None:
    if "the provider is down" in what:
        with pytest.raises(ApiError, match="processor_unavailable"):
            intents.confirm(NEW, card, "https://bank")
        return
    after = intents.confirm(NEW, card, "https://bank")
    if "redirect_url" in what or what.startswith("the same"):
        assert (after.status, after.next_action is not None) == ("requires_action", True)
        after = intents.authenticate(after, approved=True)
    declined = what.startswith(("declined", "the same"))
    expected = (
        "processing"
        if "processing for" in what
        else "requires_payment_method"
        if declined
        else "succeeded"
    )
    assert after.status == expected
    assert (after.last_payment_error is not None) == declined
    if after.last_payment_error is not None:
        assert (
            code == f"`{after.last_payment_error.code}` (`{after.last_payment_error.decline_code}`)"
        )
