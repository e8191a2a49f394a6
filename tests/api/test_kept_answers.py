"""Cached answers about games always match the log at the position that they state."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from api.kept_answers import KeptAnswers
from eventstore.database.postgres import connect
from kit.clock import ManualClock
from projections.engine.rebuild import rebuild
from projections.search.projection import GamesText
from queries.catalog import game_tail, games
from queries.catalog.game_pages import GamePages
from queries.catalog.game_tail import GameTail
from queries.search.engines import SearchEngines
from queries.search.searching import SearchQuery
from tests.support.shops.gateway import Person, Shop, another_process
from tests.support.shops.projected import CODEC, model

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The games and pages that were read from the database."""
    made: list[object] = []
    game, browse = games.game, games.browse

    async def counted_game(models: Any, game_id: Any) -> Any:
        made.append(game_id)
        return await game(models, game_id)

    async def counted_page(models: Any, wanted: Any) -> Any:
        made.append(wanted)
        return await browse(models, wanted)

    monkeypatch.setattr(games, "game", counted_game)
    monkeypatch.setattr("queries.catalog.game_pages.browse", counted_page)
    return made


@pytest.fixture
def searched(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the search index was asked for."""
    made: list[str] = []
    search = SearchEngines.search

    async def counted(
        engines: SearchEngines, models: Any, query: SearchQuery, now: datetime
    ) -> Any:
        made.append(query.q)
        return await search(engines, models, query, now)

    monkeypatch.setattr(SearchEngines, "search", counted)
    return made


@pytest_asyncio.fixture(loop_scope="module")
async def tail(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> GameTail:
    """The shop's tail of the log, which looks only when told to; what it saw stays valid however
    slow the machine is."""
    tail = kept_by(shop)._tail

    async def nothing() -> None: ...

    await tail.close()
    tail._forget()
    monkeypatch.setattr(tail, "_follow", nothing)
    monkeypatch.setattr(game_tail, "STALE_SECONDS", 600.0)
    return tail


def kept_by(shop: Shop) -> KeptAnswers:
    kept: KeptAnswers = shop.app.state.kept_answers
    return kept


async def looked(shop: Shop, tail: GameTail) -> None:
    """Wait until the read models have all events, and the tail has seen them."""
    for path in ("/api/v1/games", "/api/v1/games/search"):
        await shop.client().get(path, headers=await shop.reached())
    await tail._look()


def at(cents: int) -> dict[str, object]:
    return {"prices": [{"region": "*", "amount_cents": cents, "currency": "USD"}]}


async def test_what_did_not_change_is_read_once(
    shop: Shop, seller: Person, tail: GameTail, read: list[object]
) -> None:
    path = f"/api/v1/games/{(await shop.game(seller))['id']}"
    await looked(shop, tail)
    client, reads = shop.client(), len(read)
    first = await client.get(path)
    await seller.post("/api/v1/wallets", json={"currency": "USD"})
    await tail._look()

    again = await client.get(path)
    other_question = await client.get(path, headers={"If-None-Match": first.headers["etag"]})

    assert len(read) == reads + 1
    assert (again.content, again.headers["etag"]) == (first.content, first.headers["etag"])
    assert again.headers["vary"] == first.headers["vary"] == "Authorization"
    assert int(again.headers["event-position"]) > int(first.headers["event-position"])
    assert (other_question.status_code, other_question.content) == (304, b"")


async def test_a_page_is_kept_with_its_link(
    shop: Shop, seller: Person, tail: GameTail, read: list[object]
) -> None:
    for _ in range(3):
        await shop.game(seller)
    await looked(shop, tail)
    client, path = shop.client(), f"/api/v1/games?seller_id={seller.id}&limit=2"
    first, reads = await client.get(path), len(read)

    again = await client.get(path)
    following = await client.get(again.links["next"]["url"])

    assert (again.content, again.headers["link"]) == (first.content, first.headers["link"])
    assert len(following.json()["items"]) == 1
    assert len(read) == reads + 1


async def test_a_change_of_a_game_ends_what_shows_it(
    shop: Shop, seller: Person, tail: GameTail, read: list[object]
) -> None:
    changed, other = [f"/api/v1/games/{(await shop.game(seller))['id']}" for _ in range(2)]
    page, client = f"/api/v1/games?seller_id={seller.id}", shop.client()
    await looked(shop, tail)
    for path in (changed, other, page):
        await client.get(path)

    await seller.put(changed, json=at(777))
    await looked(shop, tail)

    reads = len(read)
    assert (await client.get(changed)).json()["price"]["amount_cents"] == 777
    assert 777 in [
        game["price"]["amount_cents"] for game in (await client.get(page)).json()["items"]
    ]
    assert len(read) == reads + 2
    await client.get(other)
    assert len(read) == reads + 2


async def test_what_is_out_of_date_says_so_and_is_not_shown_to_who_knows_of_the_change(
    shop: Shop, seller: Person, tail: GameTail
) -> None:
    path, client = f"/api/v1/games/{(await shop.game(seller))['id']}", shop.client()
    await looked(shop, tail)
    await client.get(path)
    changed = await seller.put(path, json=at(777))
    at_change = int(changed.headers["event-position"])

    unaware = await client.get(path)
    aware = await client.get(path, headers={"Min-Position": str(at_change)})
    oneself = await seller.get(path)

    assert unaware.json()["price"]["amount_cents"] == 1999
    assert int(unaware.headers["event-position"]) < at_change
    assert aware.json()["price"]["amount_cents"] == 777
    assert oneself.json()["price"]["amount_cents"] == 777


async def test_nothing_is_kept_of_a_log_that_was_not_seen_lately(
    shop: Shop, seller: Person, tail: GameTail, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, client = f"/api/v1/games/{(await shop.game(seller))['id']}", shop.client()
    await looked(shop, tail)
    await client.get(path)
    await seller.put(path, json=at(777))
    await shop.client().get("/api/v1/games", headers=await shop.reached())

    monkeypatch.setattr(game_tail, "STALE_SECONDS", 0.0)

    assert (await client.get(path)).json()["price"]["amount_cents"] == 777


async def test_what_was_read_before_a_change_is_not_kept_after_it(
    shop: Shop, seller: Person, tail: GameTail, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, client = f"/api/v1/games/{(await shop.game(seller))['id']}", shop.client()
    await looked(shop, tail)
    game = games.game

    async def overtaken(models: Any, game_id: Any) -> Any:
        found = await game(models, game_id)
        await seller.put(path, json=at(777))
        await looked(shop, tail)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(games, "game", overtaken)
        assert (await client.get(path)).json()["price"]["amount_cents"] == 1999

    assert (await client.get(path)).json()["price"]["amount_cents"] == 777


async def test_a_log_that_went_back_leaves_nothing(
    shop: Shop, seller: Person, tail: GameTail, read: list[object]
) -> None:
    path, client = f"/api/v1/games/{(await shop.game(seller))['id']}", shop.client()
    await looked(shop, tail)
    await client.get(path)
    reads = len(read)

    for forget in shop.core.log.history._forget:
        forget()
    await tail._look()
    await client.get(path)

    assert len(read) == reads + 1


async def test_while_a_game_is_quarantined_nothing_is_kept(
    shop: Shop, seller: Person, tail: GameTail, read: list[object]
) -> None:
    game = await shop.game(seller)
    path, client = f"/api/v1/games/{game['id']}", shop.client()
    await looked(shop, tail)
    async with shop.core.log.pool.connection() as conn:
        await conn.execute(
            "INSERT INTO consumers.quarantine (feed, stream_id, position, name, error) SELECT feed,"
            " %s, 1, 'game.updated.v1', 'broken' FROM consumers.feeds WHERE projection = 'games'",
            [game["id"]],
        )
    await tail._look()
    reads = len(read)

    for _ in range(3):
        await client.get(path)
    async with shop.core.log.pool.connection() as conn:
        await conn.execute("DELETE FROM consumers.quarantine WHERE stream_id = %s", (game["id"],))

    assert len(read) == reads + 3


async def test_what_was_searched_for_is_kept_until_another_process_changes_a_game(
    shop: Shop, seller: Person, tail: GameTail, searched: list[str]
) -> None:
    games = [await shop.game(seller, title=f"Kestrel {number}") for number in (1, 2)]
    path, client = "/api/v1/games/search?q=kestrl&limit=1", shop.client()
    await looked(shop, tail)
    first = await client.get(path)
    await seller.post("/api/v1/wallets", json={"currency": "USD"})
    await tail._look()
    again = await client.get(path)
    assert (again.content, again.headers["link"]) == (first.content, first.headers["link"])
    assert searched.count("kestrl") == 1

    async with another_process(shop) as elsewhere:
        editor = elsewhere.client(seller.tokens["access_token"])
        for game in games:
            await editor.put(f"/api/v1/games/{game['id']}", json={"title": "Merlin"})
    renamed = await seller.get("/api/v1/games/search?q=kestrl")
    assert renamed.json()["items"] == []
    await looked(shop, tail)

    assert (await client.get(path)).json()["items"] == []
    assert (await client.get(f"{path}&region=BR")).json()["items"] == []
    assert searched.count("kestrl") == 4


async def test_the_currency_of_a_region_is_kept_until_another_process_changes_it(
    shop: Shop, seller: Person, tail: GameTail, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, currency = [], GamePages.currency

    async def counted(pages: GamePages, models: Any, region: str) -> Any:
        asked.append(region)
        return await currency(pages, models, region)

    monkeypatch.setattr(GamePages, "currency", counted)
    path = f"/api/v1/games/search?seller_id={seller.id}&region=JP"

    def priced(code: str) -> dict[str, object]:
        return {"prices": [{"region": "JP", "amount_cents": 500, "currency": code}]}

    async def counts(limit: int) -> list[int]:
        facets = (await shop.client().get(f"{path}&limit={limit}")).json()["facets"]
        return [each["count"] for each in facets["price"]]

    game = await shop.game(seller, **priced("JPY"))
    await looked(shop, tail)
    assert [await counts(limit) for limit in (1, 2, 3)] == [[1]] * 3
    assert asked.count("JP") == 1

    async with another_process(shop) as elsewhere:
        editor = elsewhere.client(seller.tokens["access_token"])
        await editor.put(f"/api/v1/games/{game['id']}", json=priced("KRW"))
    own = await seller.get(path)
    assert [each["count"] for each in own.json()["facets"]["price"]] == [1]
    await looked(shop, tail)

    assert await counts(1) == [1]


async def test_a_search_index_that_was_made_anew_is_asked_again(
    shop: Shop, seller: Person, tail: GameTail, searched: list[str]
) -> None:
    await shop.game(seller, title="Peregrine")
    path, client = "/api/v1/games/search?q=peregrine", shop.client()
    await looked(shop, tail)
    await client.get(path)
    await client.get(path)
    assert searched.count("peregrine") == 1

    def make_anew() -> None:
        with connect(shop.core.url, "test") as conn:
            rebuild(conn, CODEC, model(GamesText.name), lambda _done, _all: None)

    await asyncio.to_thread(make_anew)
    await tail._look()
    await client.get(path)

    assert searched.count("peregrine") == 2


async def stocked(shop: Shop, seller: Person, total: int) -> str:
    """A physical game, on sale."""
    game = await shop.game(seller, kind="PHYSICAL")
    body = {"product_id": game["id"], "total_quantity": total}
    answer = await seller.put("/api/v1/inventory/stock", json=body)
    assert answer.status_code == 200, answer.text
    return str(game["id"])


async def test_how_many_there_are_is_read_again_when_that_changes(
    shop: Shop, buyer: Person, seller: Person, tail: GameTail, read: list[object]
) -> None:
    game_id, other_id = [await stocked(shop, seller, 5) for _ in range(2)]
    paths = [f"/api/v1/games/{game_id}", f"/api/v1/games?seller_id={seller.id}"]
    other, client = f"/api/v1/games/{other_id}", shop.client()
    await looked(shop, tail)
    for path in (*paths, other, *paths):
        await client.get(path)
    reads = len(read)

    item = {"product_id": game_id, "quantity": 2}
    assert (await buyer.post("/api/v1/cart/items", json=item)).status_code == 201
    await client.get("/api/v1/games", headers=await shop.reached())
    await client.get(f"/api/v1/inventory/availability/{game_id}", headers=await shop.reached())
    await tail._look()

    assert (await client.get(other)).json()["available"] == 5
    assert len(read) == reads
    assert (await client.get(paths[0])).json()["available"] == 3
    listed = {
        each["id"]: each["available"] for each in (await client.get(paths[1])).json()["items"]
    }
    assert listed == {game_id: 3, other_id: 5}


async def test_how_many_there_are_is_read_again_when_a_hold_expires(
    shop: Shop,
    buyer: Person,
    seller: Person,
    tail: GameTail,
    read: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    game_id = await stocked(shop, seller, 5)
    path, client = f"/api/v1/games/{game_id}", shop.client()
    item = {"product_id": game_id, "quantity": 2}
    cart = await buyer.post("/api/v1/cart/items", json=item)
    await client.get(f"/api/v1/inventory/availability/{game_id}", headers=await shop.reached())
    await looked(shop, tail)
    await client.get(path)
    (until,) = [kept.content.until for url, kept in kept_by(shop)._kept.items() if url.path == path]
    assert until is not None
    assert until >= datetime.fromisoformat(cart.json()["expires_at"])
    reads, clock = len(read), ManualClock(until - timedelta(seconds=1))
    monkeypatch.setattr(kept_by(shop), "_clock", clock)
    await client.get(path)
    assert len(read) == reads

    clock.advance(timedelta(seconds=1))
    await client.get(path)

    assert len(read) == reads + 1


async def test_a_draft_stays_hidden(shop: Shop, seller: Person, tail: GameTail) -> None:
    path = f"/api/v1/games/{(await shop.game(seller, status='DRAFT'))['id']}"
    await looked(shop, tail)

    assert [(await who.get(path)).status_code for who in (seller, shop.client())] == [200, 404]
    assert (await shop.client("no token").get(path)).status_code == 404


async def test_only_so_much_is_kept(
    shop: Shop, seller: Person, tail: GameTail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.kept_answers.MAX_BYTES", 10_000)
    await shop.game(seller)
    await looked(shop, tail)

    for number in range(30):
        await shop.client().get(f"/api/v1/games?price_max={number}&currency=USD")

    kept = kept_by(shop)
    assert 0 < len(kept._kept) <= 9
    assert kept._bytes <= 10_000


async def test_an_answer_is_of_its_position_while_another_process_changes_the_game(
    shop: Shop, seller: Person
) -> None:
    """Here the tail follows by itself."""
    path, client = f"/api/v1/games/{(await shop.game(seller))['id']}", shop.client()
    async with another_process(shop) as elsewhere:
        editor = elsewhere.client(seller.tokens["access_token"])
        prices: dict[int, int] = {}
        for cents in range(1, 60):
            changed = await editor.put(path, json=at(cents))
            prices[int(changed.headers["event-position"])] = cents
            for _ in range(3):
                answer = await client.get(path)
                position = int(answer.headers["event-position"])
                known = [price for at, price in sorted(prices.items()) if at <= position]
                assert answer.json()["price"]["amount_cents"] == (known or [1999])[-1]
        last = await client.get(path, headers=await shop.reached())

    assert last.json()["price"]["amount_cents"] == 59
