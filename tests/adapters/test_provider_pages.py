"""The simulated provider's pages lead payers back to the shop."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.servers.provider import running_provider

CARD = "pm_card_authenticationRequired"


def asked(provider: str, metadata: dict[str, str]) -> str:
    """The bank's page of a new payment."""
    body: dict[str, Any] = {"amount": 1999, "currency": "usd", "metadata": metadata}
    made = httpx.post(f"{provider}/v1/payment_intents", json={**body, "payment_method": CARD})
    return str(made.json()["next_action"]["redirect_to_url"]["url"])


@pytest.mark.parametrize("decision", ["approve", "decline"])
@pytest.mark.parametrize(
    ("shop", "back"),
    [
        ("https://shop.example/paid", "https://shop.example/paid?payment_id=a%26b"),
        ("shop://paid?x=1", "shop://paid?x=1&amp;payment_id=a%26b"),
    ],
)
def test_who_has_decided_is_led_back_to_the_shop(
    tmp_path: Path, shop: str, back: str, decision: str
) -> None:
    with running_provider(tmp_path / "p.sqlite3", "http://127.0.0.1:9/", return_url=shop) as url:
        page = asked(url, {"payment_id": "a&b"})
        assert back not in httpx.get(page).text

        for status in (200, 409):  # the second decision does not count
            decided = httpx.post(page, data={"decision": decision})
            assert decided.status_code == status
            assert f'<a href="{back}">' in decided.text
            assert f'content="2;url={back}"' in decided.text


@pytest.mark.parametrize("metadata", [{}, {"payment_id": "1"}])
def test_who_came_from_nowhere_is_led_nowhere(tmp_path: Path, metadata: dict[str, str]) -> None:
    shop = "" if metadata else "https://shop.example/paid"
    with running_provider(tmp_path / "p.sqlite3", "http://127.0.0.1:9/", return_url=shop) as url:
        decided = httpx.post(asked(url, metadata), data={"decision": "approve"})

    assert "refresh" not in decided.text
    assert "<a " not in decided.text
