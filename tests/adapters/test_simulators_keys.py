"""The simulators' APIs require the key; their pages are public."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from adapters.fiscal import simulator as fiscal_simulator
from adapters.payments import simulator as provider_simulator
from adapters.payments.simulated import SimulatedProvider
from runtime.settings import Settings

KEY = "sk_test"
FOR_EVERYBODY = {"/3ds/{ref}", "/pay/{payment_id}", "/receipts/{reference}", "/health"}


def provider(home: Path) -> FastAPI:
    return provider_simulator.create_app(
        home / "p.sqlite3", "http://nowhere", "whsec", "http://here", api_key=KEY
    )


def operator(home: Path) -> FastAPI:
    return fiscal_simulator.create_app(home / "f.sqlite3", "http://here", KEY)


@pytest.mark.parametrize("make", [provider, operator])
def test_every_operation_but_the_pages_needs_the_key(tmp_path: Path, make: Any) -> None:
    app = make(tmp_path)
    paths: dict[str, dict[str, Any]] = app.openapi()["paths"]
    with TestClient(app) as client:
        for path, operations in paths.items():
            for method in operations:
                url = path.replace("{year}", "2026").replace("{", "").replace("}", "")
                for headers in ({}, {"Authorization": "Bearer sk_other"}, {"Authorization": KEY}):
                    refused = client.request(method, url, headers=headers).status_code == 401
                    assert refused == (path not in FOR_EVERYBODY), (method, path)
                with_key = client.request(method, url, headers={"Authorization": f"Bearer {KEY}"})
                assert with_key.status_code != 401, (method, path)


async def test_the_client_sends_the_key_and_leads_payers_to_where_they_reach_the_pages() -> None:
    client = SimulatedProvider(
        "http://provider:9000", ["whsec"], public_url="https://pay.example/", key=KEY
    )
    payment_id = "0197a7c0-0000-7000-8000-000000000001"

    assert client._headers == {"Authorization": f"Bearer {KEY}"}
    assert client.pay_page(payment_id) == f"https://pay.example/pay/{payment_id}"  # type: ignore[arg-type]
    assert urlsplit(SimulatedProvider("http://x:1", []).pay_page(payment_id)).netloc == "x:1"  # type: ignore[arg-type]
    await client.aclose()


@pytest.mark.parametrize(
    ("host", "published"), [("127.0.0.1", False), ("0.0.0.0", True), ("::", True)]
)
def test_the_key_is_asked_for_where_others_reach_the_port(host: str, published: bool) -> None:
    assert Settings(host=host).provider_is_published == published
