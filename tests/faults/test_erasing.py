"""What PostgreSQL's disk shows of forgotten persons, and what keeps it from being erased."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from eventstore.database.postgres import connect
from projections.engine import erasing
from projections.engine.erasing import Erased, erase
from projections.registry import read_models
from runtime.wiring.codec import codec
from tests.support.servers.own_postgres import OwnPostgres
from tests.support.shops.gateway import Person, Shop, open_shop
from tests.support.traces import in_database, in_files, needles

NAME = "Quölla Canary-7f3a"
MODELS = {each.projection.name: each for each in read_models()}


@pytest.fixture(scope="module")
def server() -> Iterator[OwnPostgres]:
    with OwnPostgres() as made:
        yield made


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "OLD_SNAPSHOTS_SECONDS", 0.5)


@asynccontextmanager
async def shop_on(server: OwnPostgres, home: Path) -> AsyncIterator[Shop]:
    async with open_shop(server.url, home) as shop:
        yield shop


async def forgotten(shop: Shop, person: Person) -> None:
    answer = await person.delete("/api/v1/users/me", params={"forget": True})
    assert answer.status_code == 204, answer.text


def erased(url: str) -> Erased:
    with connect(url, "test", role="") as conn:
        return erase(conn, codec(), MODELS)


async def test_the_disk_shows_a_person_until_they_are_erased(
    server: OwnPostgres, tmp_path: Path
) -> None:
    async with shop_on(server, tmp_path) as shop:
        email = f"quolla-{uuid4().hex}@example.com"
        ann, ben = await shop.register(name=NAME, email=email), await shop.register(name="Ben")
        await ann.get("/api/v1/users/me", headers=await shop.reached())
        key = (await shop.core.log.keys.get([ann.id]))[ann.id]
        wanted = needles(name=NAME, email=email, key=key)
        with psycopg.connect(server.url, autocommit=True) as conn:
            conn.execute("ANALYZE")
        assert in_database(server.url, wanted).keys() == wanted.keys()
        await forgotten(shop, ann)
        assert "pg_catalog.pg_statistic" not in str(in_database(server.url, wanted))
        assert in_files(server.home, wanted).keys() == wanted.keys()
        await ben.get("/api/v1/users/me", headers=await shop.reached())

        assert erased(server.url) == Erased(1)
        assert in_files(server.home, wanted) == {}
        assert in_database(server.url, wanted) == {}
        assert erased(server.url) == Erased(0)
        assert (await ben.get("/api/v1/users/me")).json()["name"] == "Ben"
