"""A whole shop whose database goes back to an earlier moment under its running processes."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.databases.going_back import Earlier
from tests.support.processes.instance import Instance, Person, eventually, running
from tests.support.servers import shared


@pytest.fixture(params=["postgresql alone", "rabbitmq and elasticsearch"])
def shop(
    request: pytest.FixtureRequest, postgres_url: str, postgres_template: str, tmp_path: Path
) -> Iterator[Instance]:
    settings: dict[str, str] = {}
    if request.param == "rabbitmq and elasticsearch":
        host = request.getfixturevalue("rabbitmq_virtual_host")
        settings["LUDOTECA_RABBITMQ_URL"] = shared.empty_virtual_host(host)
        settings["LUDOTECA_ELASTICSEARCH_URL"] = request.getfixturevalue("elasticsearch_url")
    database = shared.create_database(postgres_url, template=postgres_template)
    with running(tmp_path, database, settings) as instance:
        yield instance
    shared.drop_database(database)


def bought(buyer: Person, game: str) -> str:
    """An order that is paid, completed and granted."""
    answer = eventually(lambda: buyer.buy(game), lambda answer: answer.status_code < 500)
    assert answer.status_code == 201, answer.text
    order_id = str(answer.json()["order_id"])
    eventually(lambda: buyer.order(order_id).get("status"), lambda status: status == "COMPLETED")
    return order_id


def found(shop: Instance, title: str) -> list[tuple[str, int]]:
    """Title and price in a search result."""
    answer = httpx.get(f"{shop.base}/api/v1/games/search", params={"q": title}, timeout=30)
    assert answer.status_code == 200, answer.text
    return [(item["title"], item["price"]["amount_cents"]) for item in answer.json()["items"]]


def fiscal_book(shop: Instance) -> dict[int, str]:
    """The orders in the fiscal operator's only book, by their numbers, once every job is done."""
    url = f"http://127.0.0.1:{shop.environment['LUDOTECA_FISCAL_PORT']}/v1/receipts"
    issued = eventually(
        lambda: httpx.get(url).json()["receipts"], lambda receipts: len(receipts) >= 4
    )
    return dict(sorted((receipt["number"], receipt["order_id"]) for receipt in issued))


def set_price(shop: Instance, game: str, cents: int) -> None:
    version = shop.admin().get(f"/api/v1/games/{game}").headers["ETag"]
    body = {"prices": [{"region": "*", "amount_cents": cents, "currency": "USD"}]}
    answer = shop.admin().put(f"/api/v1/games/{game}", json=body, headers={"If-Match": version})
    assert answer.status_code == 200, answer.text


def lags(shop: Instance) -> dict[str, int]:
    listed = json.loads(shop.cli("projections", "list", "--json"))
    assert not [feed for feed in listed if feed["astray"]]
    return {feed["projection"]: feed["lag"] for feed in listed if feed["lag"]}


@pytest.mark.soak
def test_it_goes_on_and_shows_nothing_of_what_is_gone(shop: Instance) -> None:
    ann = shop.register()
    celeste = shop.game(2000, "Celeste Classic")
    kept_order = bought(ann, celeste)
    eventually(ann.titles, lambda titles: titles == ["Celeste Classic"])
    eventually(lambda: found(shop, "Celeste"), lambda games: games == [("Celeste Classic", 2000)])

    earlier = Earlier(shop.environment["LUDOTECA_DATABASE_URL"])
    earlier.keep()
    shop.await_ready()

    bob = shop.register()
    ghost = shop.game(700, "Ghost Story")
    lost_order = bought(bob, ghost)
    set_price(shop, celeste, 1)
    eventually(lambda: found(shop, "Celeste"), lambda games: games == [("Celeste Classic", 1)])
    eventually(lambda: found(shop, "Ghost"), lambda games: games == [("Ghost Story", 700)])
    eventually(bob.titles, lambda titles: titles == ["Ghost Story"])

    earlier.go_back()
    shop.await_ready()

    assert bob.http.get(f"/api/v1/users/{bob.id}").status_code == 401
    assert bob.buy(celeste).status_code == 401, "an account that there never was"
    assert shop.http().get(f"/api/v1/games/{ghost}").status_code == 404
    assert ann.http.get(f"/api/v1/orders/{lost_order}").status_code == 404
    assert found(shop, "Celeste") == [("Celeste Classic", 2000)]
    assert found(shop, "Ghost") == []
    assert ann.order(kept_order)["status"] == "COMPLETED"

    carol = shop.register()
    hades = shop.game(900, "Hades Rising")
    for game in (celeste, hades):
        bought(carol, game)
    eventually(carol.titles, lambda titles: sorted(titles) == ["Celeste Classic", "Hades Rising"])
    set_price(shop, celeste, 1500)
    eventually(lambda: found(shop, "Celeste"), lambda games: games == [("Celeste Classic", 1500)])
    eventually(lambda: found(shop, "Hades"), lambda games: games == [("Hades Rising", 900)])
    eventually(lambda: carol.notices().count("purchase"), lambda purchases: purchases >= 2)
    assert found(shop, "Ghost") == []

    eventually(lambda: lags(shop), lambda behind: not behind)
    assert all(verified["equal"] for verified in shop.verify())
    shop.cli("audit", "verify")

    book = fiscal_book(shop)
    assert list(book) == [1, 2, 3, 4], "one was lost, and three the log has"
    assert lost_order in book.values()
    reconciled = json.loads(shop.cli("receipts", "reconcile", "--since", "2020-01-01", "--json"))
    assert reconciled == {"found": [], "asked_anew": []}
    assert json.loads(shop.cli("dlq", "list", "--json")) == []
