"""`ludoteca payments reconcile`."""

from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.support.servers.provider import running_provider
from tests.support.shops.commands import Ludoteca, Shop


def test_money_of_lost_orders_is_listed_page_by_page(
    ludoteca: Ludoteca, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_provider(tmp_path / "provider.sqlite3", "http://127.0.0.1:1") as url:
        monkeypatch.setenv("LUDOTECA_PROVIDER_URL", url)
        assert ludoteca("payments", "reconcile").exit_code == 0
        with httpx.Client(base_url=url) as http:
            for amount in range(1, 103):
                metadata = {"payment_id": str(uuid4())}
                body = {
                    "amount": amount,
                    "currency": "usd",
                    "payment_method": "pm_card_visa",
                    "metadata": metadata,
                }
                assert http.post("/v1/payment_intents", json=body).status_code == 200
        result = ludoteca("payments", "reconcile", "--since", "2020-01-01")
        assert (result.exit_code, result.stdout.count("lost")) == (1, 102)
        assert ludoteca("payments", "reconcile", "--since", "2099-01-01").exit_code == 0
    assert ludoteca("payments", "reconcile").exit_code == 3
