"""No page of another site acts on a simulated service through a visitor's browser."""

from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from adapters.carrier import simulator as carrier
from adapters.carrier.simulator import Parcel
from adapters.fiscal import simulator as fiscal
from adapters.payments import simulator as provider


async def nothing_in_transit() -> list[Parcel]:
    return []


def services(home: Path) -> list[tuple[FastAPI, str]]:
    """Each simulator, and something that it does."""
    return [
        (
            carrier.create_app(home / "c", "http://shop", "s", nothing_in_transit),
            "/parcels/1/delivered",
        ),
        (provider.create_app(home / "p", "http://shop", "s", "http://here"), "/pay/1"),
        (fiscal.create_app(home / "f", "http://here", ""), "/receipts"),
    ]


OTHERS = [
    {"sec-fetch-site": "cross-site", "origin": "https://elsewhere.example"},
    {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:8000"},
    {"origin": "https://elsewhere.example"},
    {"origin": "null"},
]
OWN = [
    {},  # a program
    {"sec-fetch-site": "same-origin", "origin": "null"},
    {"sec-fetch-site": "none"},
    {"origin": "http://testserver"},
]


@pytest.mark.parametrize("headers", OTHERS)
def test_other_sites_are_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    for app, path in services(tmp_path):
        with TestClient(app) as client:
            assert client.post(path, headers=headers).status_code == 403, path
            assert client.get("/health", headers=headers).status_code == 200


@pytest.mark.parametrize("headers", OWN)
def test_own_pages_and_programs_are_heard(tmp_path: Path, headers: dict[str, str]) -> None:
    for app, path in services(tmp_path):
        with TestClient(app) as client:
            assert client.post(path, headers=headers).status_code in {404, 422}, path
