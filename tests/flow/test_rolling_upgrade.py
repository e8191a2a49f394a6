"""Two releases of the program side by side while people shop: the older one leaves the lead to the
newer one, and nobody notices."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from eventstore.database.release import RELEASE
from tests.support import ROOT
from tests.support.processes.fleet import Fleet, fleet
from tests.support.processes.instance import eventually
from tests.support.processes.program import Process, started
from tests.support.releases import last_release, next_release
from tests.support.servers.shared import free_port
from tests.support.shops.aftermath import Aftermath
from tests.support.shops.customers import Customers

pytestmark = pytest.mark.soak

COUNTS = {"provider": 1, "api": 2, "projector": 1, "worker": 1}
LEADING = ("projector.1", "worker.1")
OUTDATED = 3
"""The exit code of a process that leaves the lead to a newer release."""

READMIT = f"DELETE FROM log.releases WHERE number > {RELEASE}"


class Shopping:
    """A fleet with customers who shop until the block ends, and are served all the time."""

    def __init__(self, shop: Fleet, **options: bool) -> None:
        self._customers = Customers(shop.shop, lambda: shop.urls, 1, **options)
        self._shop = shop

    def __enter__(self) -> Customers:
        self._customers.start()
        self.goes_on()
        return self._customers

    def __exit__(self, *_: object) -> None:
        self._customers.finish()

    def goes_on(self, deeds: int = 10) -> None:
        """Wait until the customers have done some things more."""
        wanted = self._customers.done.count + deeds
        eventually(partial(self._customers.have_done, wanted), patience=240)


@pytest.fixture
def operator(database: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A fiscal operator that shows its books, and the settings of a shop that reports to it. It is
    another system: the shop's releases do not matter to it."""
    port = str(free_port())
    process = Process("fiscal", tmp_path / "operator", database, LUDOTECA_FISCAL_PORT=port)
    with started(process):
        yield {"LUDOTECA_FISCAL_PORT": port, "LUDOTECA_FISCAL_URL": f"http://127.0.0.1:{port}"}


def test_the_last_release_is_upgraded_while_people_shop(
    empty_database: str, operator: dict[str, str], tmp_path: Path
) -> None:
    """By the steps of the changelog: the last release knows nothing of release numbers."""
    old = last_release(tmp_path / "old")
    with fleet(tmp_path / "home", empty_database, **operator) as shop:
        shop.start_all(COUNTS, old)
        shopping = Shopping(shop, refunds=False)
        with shopping as customers:
            for name in LEADING:
                assert shop.stop(name) == 0
            for name in LEADING:
                shop.start(name)
            shop.start("api.3")
            shop.await_ready("api.3")
            shopping.goes_on()
            for name in ("api.1", "api.2"):
                customers.deposit_at(shop.processes[name].url)
                assert shop.stop(name) == 0
                shop.start(name)
                shop.await_ready(name)
            shopping.goes_on()
        Aftermath(shop.shop, customers).check()


def test_a_release_without_a_migration_is_taken_up_and_given_up_while_people_shop(
    database: str, tmp_path: Path
) -> None:
    new = next_release(tmp_path / "new")
    with fleet(tmp_path / "home", database) as shop:
        shop.start_all({**COUNTS, "fiscal": 1})
        shopping = Shopping(shop)
        with shopping as customers:
            replace(shop, new)
            shopping.goes_on()
            for url in shop.urls:
                customers.deposit_at(url)
            for name in LEADING:
                assert shop.stop(name) == 0
            readmit(database)
            for name in (*LEADING, "api.2"):
                if name in shop.processes:
                    assert shop.stop(name) == 0
                shop.start(name)
                shop.await_ready(name)
            shopping.goes_on()
        Aftermath(shop.shop, customers).check()


def replace(shop: Fleet, code: Path = ROOT) -> None:
    """Start the leading processes of a newer release: those of the older one end by themselves.
    Then replace one API process."""
    older = {name: shop.processes.pop(name) for name in LEADING}
    for name in LEADING:
        shop.start(name, code)
    for name, process in older.items():
        assert process.popen.wait(60) == OUTDATED, (name, process.said)
    assert shop.stop("api.2") == 0
    shop.start("api.2", code)
    shop.await_ready("api.2")


def readmit(database: str) -> None:
    """What docs/operations.md tells operators to run."""
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute(READMIT)
