"""Listing, editing, browsing and searching games, over HTTP."""

import re
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from commands.aggregates import CLAIM, GAME
from commands.caller import SYSTEM, Caller
from domain import catalog
from domain.catalog import Listing
from domain.claims import ClaimTaken
from domain.ids import claim_id
from eventstore.unit_of_work import UnitOfWork
from tests.support.shops.gateway import Person, Shop, a_game


async def test_a_listed_game_can_be_seen_by_all(shop: Shop, seller: Person) -> None:
    wanted = a_game(release_date="2018-01-25", tags=["Indie"], description="Climb.\nFall.")
    answer = await seller.post("/api/v1/games", json=wanted)
    game = answer.json()

    assert (answer.status_code, answer.headers["location"]) == (201, f"/api/v1/games/{game['id']}")
    assert answer.headers["etag"] == '"1"'
    assert {name: game[name] for name in wanted} == wanted
    assert game["seller_id"] == str(seller.id)
    seen = await shop.client().get(f"/api/v1/games/{game['id']}")
    assert {name: seen.json()[name] for name in game} == game
    assert seen.json()["created_at"].endswith("Z")


async def test_only_sellers_and_admins_list_games(shop: Shop, buyer: Person, admin: Person) -> None:
    assert (await shop.client().post("/api/v1/games", json=a_game())).status_code == 401
    assert (await buyer.post("/api/v1/games", json=a_game())).json()["code"] == "not_a_seller"
    assert (await admin.post("/api/v1/games", json=a_game())).status_code == 201


async def test_a_seller_has_a_sku_once(shop: Shop, seller: Person) -> None:
    other = await shop.register("SELLER")
    sku = uuid4().hex
    await shop.game(seller, sku=sku)

    again = await seller.post("/api/v1/games", json=a_game(sku=sku))

    assert (again.status_code, again.json()["code"]) == (409, "sku_taken")
    assert (await other.post("/api/v1/games", json=a_game(sku=sku))).status_code == 201


async def test_spellings_that_a_label_does_not_tell_apart_are_one_sku(
    shop: Shop, seller: Person
) -> None:
    sku = f"Abc-{uuid4().hex}"
    game = await shop.game(seller, sku=sku + " ")
    assert game["sku"] == sku
    for spelling in (sku.lower(), sku.upper(), f"\u200b{sku}", f"{sku}\u00a0"):
        again = await seller.post("/api/v1/games", json=a_game(sku=spelling))
        assert (again.status_code, again.json()["code"]) == (409, "sku_taken"), ascii(spelling)

    changed = await seller.put(f"/api/v1/games/{game['id']}", json={"sku": sku.upper()})
    assert changed.json()["sku"] == sku.upper()
    assert (await seller.delete(f"/api/v1/games/{game['id']}")).status_code == 204
    assert (await seller.post("/api/v1/games", json=a_game(sku=sku))).status_code == 201


async def test_a_sku_claimed_as_it_was_typed_collides_with_all_its_spellings(
    shop: Shop, seller: Person
) -> None:
    sku, game_id = f"Abc-{uuid4().hex}", uuid4()
    created = catalog.create(seller.id, Listing(sku=sku, title="Celeste", kind="DIGITAL"))
    typed = claim_id("sku", seller.id, sku)

    async def as_before(unit: UnitOfWork) -> None:
        unit.create(GAME, game_id, created)
        unit.create(CLAIM, typed, [ClaimTaken(kind="sku", holder_id=game_id)])

    landed = await shop.core.handler.handle(as_before, SYSTEM)
    assert (await seller.post("/api/v1/games", json=a_game(sku=sku))).json()["code"] == "sku_taken"

    async def claimed() -> bool:
        claim = await shop.core.repository.state(
            CLAIM, claim_id("sku", seller.id, catalog.sku_key(sku))
        )
        return claim is not None and claim.holder_id == game_id

    await shop.eventually(claimed)
    assert landed.position is not None
    assert (await seller.post("/api/v1/games", json=a_game(sku=sku.lower()))).json()[
        "code"
    ] == "sku_taken"
    assert (await seller.delete(f"/api/v1/games/{game_id}")).status_code == 204
    assert (await seller.post("/api/v1/games", json=a_game(sku=sku.lower()))).status_code == 201
    assert (await seller.post("/api/v1/games", json=a_game(sku=sku))).json()["code"] == "sku_taken"


INVISIBLE = ["\u200b", " \u00a0", "\u3164", "\u2800\ufe0f", "\u0301"]


@pytest.mark.parametrize("text", INVISIBLE, ids=ascii)
@pytest.mark.parametrize(
    "field", ["title", "sku", "publisher", "category", "genres", "tags", "platforms"]
)
async def test_a_text_that_nobody_sees_is_refused(seller: Person, field: str, text: str) -> None:
    value = [text] if field.endswith("s") else text
    assert (await seller.post("/api/v1/games", json=a_game(**{field: value}))).status_code == 422


@pytest.mark.parametrize("region", ["UK", "EU", "ZZ", "gb", "GBR", ""])
async def test_a_price_is_for_a_country_or_for_everywhere(
    shop: Shop, seller: Person, region: str
) -> None:
    price = {"region": region, "amount_cents": 1999, "currency": "GBP"}
    refused = await seller.post("/api/v1/games", json=a_game(prices=[price]))
    assert refused.status_code == 422
    await shop.game(seller, prices=[price | {"region": "GB"}])


async def test_a_game_on_sale_has_a_price(seller: Person) -> None:
    refused = await seller.post("/api/v1/games", json=a_game(prices=[]))
    assert (refused.status_code, refused.json()["code"]) == (422, "price_required")
    draft = (await seller.post("/api/v1/games", json=a_game(prices=[], status="DRAFT"))).json()
    published = await seller.put(f"/api/v1/games/{draft['id']}", json={"status": "ACTIVE"})
    assert (published.status_code, published.json()["code"]) == (422, "price_required")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        (
            {"prices": [{"region": "*", "amount_cents": 19.99, "currency": "USD"}]},
            "prices.0.amount_cents",
        ),
        (
            {"prices": [{"region": "*", "amount_cents": "1999", "currency": "USD"}]},
            "prices.0.amount_cents",
        ),
        (
            {"prices": [{"region": "*", "amount_cents": True, "currency": "USD"}]},
            "prices.0.amount_cents",
        ),
        (
            {"prices": [{"region": "*", "amount_cents": -1, "currency": "USD"}]},
            "prices.0.amount_cents",
        ),
        ({"release_date": 0}, "release_date"),
        ({"release_date": "2018-02-30"}, "release_date"),
        ({"title": "Cel\x00este"}, "title"),
        ({"title": "Cel\u202eeste"}, "title"),
        ({"title": "Cel\u2028este"}, "title"),
        ({"description": "Climb \u2066and fall"}, "description"),
        ({"genres": ["x"] * 51}, "genres"),
        ({"seller_id": str(uuid4())}, "seller_id"),
    ],
)
async def test_a_game_that_cannot_be_is_refused(
    seller: Person, fields: dict[str, object], field: str
) -> None:
    answer = await seller.post("/api/v1/games", json=a_game(**fields))

    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_an_unknown_currency_is_refused(seller: Person) -> None:
    prices = [{"region": "*", "amount_cents": 1, "currency": "XXX"}]
    answer = await seller.post("/api/v1/games", json=a_game(prices=prices))

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_currency")


async def test_a_draft_is_there_for_its_seller_until_it_is_published(
    shop: Shop, seller: Person
) -> None:
    draft = await shop.game(seller, status="DRAFT")
    path = f"/api/v1/games/{draft['id']}"
    assert (await shop.client().get(path)).status_code == 404
    assert (await seller.get(path)).status_code == 200

    published = await seller.put(path, json={"status": "ACTIVE"})

    assert published.json()["status"] == "ACTIVE"
    assert (await shop.client().get(path, headers=await shop.reached())).status_code == 200


async def test_an_edit_changes_what_it_names(shop: Shop, seller: Person) -> None:
    game = await shop.game(seller, tags=["Indie"])
    path = f"/api/v1/games/{game['id']}"

    edited = await seller.put(
        path,
        json={
            "title": "Celeste Classic",
            "prices": [{"region": "BR", "amount_cents": 999, "currency": "BRL"}],
        },
        headers={"If-Match": '"1"'},
    )
    stale = await seller.put(path, json={"title": "x"}, headers={"If-Match": '"1"'})

    assert edited.json() == {
        **game,
        "title": "Celeste Classic",
        "prices": [{"region": "BR", "amount_cents": 999, "currency": "BRL"}],
        "price": None,  # the seller is in the US, where the game is not sold now
        "version": 2,
    }
    assert edited.headers["etag"] == '"2"'
    assert (stale.status_code, stale.json()["version"]) == (412, 2)
    seen = await shop.client().get(path, headers={"Min-Position": edited.headers["event-position"]})
    assert seen.json()["title"] == "Celeste Classic"
    assert re.fullmatch('"2-[0-9a-f]{8}"', seen.headers["etag"])
    for tag in ('"2"', seen.headers["etag"]):  # only the version counts
        renamed = await seller.put(
            path, json={"title": "Celeste Classic"}, headers={"If-Match": tag}
        )
        assert (renamed.status_code, renamed.json()["version"]) == (200, 2)
    for tag in ('"1-00000000"', '"2-"', '"2-xyz"', '"-2"', 'W/"2"'):
        assert (
            await seller.put(path, json={"title": "x"}, headers={"If-Match": tag})
        ).status_code == 412, tag


async def test_others_games_are_not_edited(shop: Shop, seller: Person, admin: Person) -> None:
    game = await shop.game(seller)
    other = await shop.register("SELLER")

    assert (await other.put(f"/api/v1/games/{game['id']}", json={"title": "x"})).json()[
        "code"
    ] == "not_owner"
    assert (await admin.put(f"/api/v1/games/{game['id']}", json={"title": "y"})).status_code == 200
    assert (await seller.put(f"/api/v1/games/{uuid4()}", json={"title": "x"})).status_code == 404


async def test_a_retired_game_is_no_longer_on_offer(shop: Shop, seller: Person) -> None:
    game = await shop.game(seller)

    assert (await seller.delete(f"/api/v1/games/{game['id']}")).status_code == 204

    listed = await shop.client().get(
        f"/api/v1/games?seller_id={seller.id}", headers=await shop.reached()
    )
    assert listed.json()["items"] == []


async def test_browsing_filters_sorts_and_pages(shop: Shop, seller: Person) -> None:
    for amount, genres in ((300, ["RPG"]), (100, ["Ação"]), (200, ["Ação"])):
        prices = [{"region": "*", "amount_cents": amount, "currency": "USD"}]
        await shop.game(seller, prices=prices, genres=genres)
    path = f"/api/v1/games?seller_id={seller.id}&sort=price"

    def cents(answer: httpx.Response) -> list[int]:
        return [game["prices"][0]["amount_cents"] for game in answer.json()["items"]]

    everything = await shop.client().get(path, headers=await shop.reached())
    assert cents(everything) == [100, 200, 300]
    assert cents(await shop.client().get(path + "&genre=acao&price_min=150")) == [200]
    first = await shop.client().get(path + "&limit=2")
    second = await shop.client().get(first.headers["link"].split(">")[0][1:])
    assert (cents(first), cents(second)) == ([100, 200], [300])
    assert (second.json()["next_cursor"], "link" in second.headers) == (None, False)


async def test_a_search_forgives_a_typo_and_shows_what_matched(shop: Shop, seller: Person) -> None:
    word = "Zanzibarque"
    game = await shop.game(seller, title=f"{word} Chronicles", genres=["Strategy"])

    answer = await shop.client().get(
        "/api/v1/games/search?q=zanzibarqe", headers=await shop.reached()
    )
    exact = await shop.client().get("/jogos/busca?q=zanzibarque")

    assert [found["id"] for found in answer.json()["items"]] == [game["id"]]
    assert answer.json()["engine"] == "postgres"
    (found,) = exact.json()["items"]
    assert "<" in found["highlight"]
    assert found["price"] == {"amount_cents": 1999, "currency": "USD"}
    assert exact.json()["total"] == 1
    assert exact.json()["facets"]["genre"] == [{"value": "Strategy", "count": 1}]
    assert set(exact.json()["facets"]) == {"genre", "tag", "platform", "price"}


async def test_titles_are_suggested_while_one_types(shop: Shop, seller: Person) -> None:
    game = await shop.game(seller, title="Quixotic Quokkas")

    answer = await shop.client().get(
        "/api/v1/games/suggest?q=quixotic quo", headers=await shop.reached()
    )

    (found,) = answer.json()["items"]
    assert (found["id"], found["game_id"], found["title"]) == (
        game["id"],
        game["id"],
        "Quixotic Quokkas",
    )


async def test_a_seller_sees_their_drafts_and_nobody_elses(
    shop: Shop, seller: Person, admin: Person
) -> None:
    other = await shop.register("SELLER")
    draft = await shop.game(seller, status="DRAFT")
    path = f"/api/v1/catalog/products/by-seller/{seller.id}"

    mine = await seller.get(path, headers=await shop.reached())

    assert [game["id"] for game in mine.json()["items"]] == [draft["id"]]
    assert (await admin.get(path)).status_code == 200
    assert (await other.get(path)).status_code == 403


async def test_a_seller_finds_their_games_by_a_part_of_title_or_sku(
    shop: Shop, seller: Person
) -> None:
    draft = await shop.game(seller, title="Ōkami HD", sku="WOLF-1", status="DRAFT")
    other = await shop.game(seller, title="100% Orange", sku="juice_2")
    path = f"/api/v1/catalog/products/by-seller/{seller.id}"

    async def found(q: str, **more: str) -> list[str]:
        answer = await seller.get(path, params={"q": q, **more}, headers=await shop.reached())
        return [game["id"] for game in answer.json()["items"]]

    assert await found("ōKAMI") == [draft["id"]]
    assert await found(" wolf ") == [draft["id"]]
    assert await found("wolf", status="ACTIVE") == []
    assert (await found("0%"), await found("_")) == ([other["id"]], [other["id"]])
    assert await found("nothing") == []


async def test_an_admin_browses_what_is_not_on_sale_and_a_seller_their_own(
    shop: Shop, seller: Person, admin: Person
) -> None:
    other, genre = await shop.register("SELLER"), uuid4().hex
    games = {
        name: await shop.game(who, genres=[genre], status=status)
        for name, who, status in (
            ("draft", seller, "DRAFT"),
            ("theirs", other, "DRAFT"),
            ("gone", other, "ACTIVE"),
            ("sold", seller, "ACTIVE"),
        )
    }
    await other.delete(f"/api/v1/games/{games['gone']['id']}")
    names = {game["id"]: name for name, game in games.items()}

    async def browse(who: Any, **wanted: Any) -> httpx.Response:
        params = {"genre": genre, **wanted}
        answer: httpx.Response = await who.get(
            "/api/v1/admin/products", params=params, headers=await shop.reached()
        )
        return answer

    async def shown(who: Any, **wanted: Any) -> list[str]:
        return [names[game["id"]] for game in (await browse(who, **wanted)).json()["items"]]

    assert await shown(admin, status="ANY") == ["sold", "gone", "theirs", "draft"]
    assert await shown(admin, status="ANY", seller_id=other.id, sort="title") == ["theirs", "gone"]
    assert (await shown(admin, status="DRAFT"), await shown(admin, status="RETIRED")) == (
        ["theirs", "draft"],
        ["gone"],
    )
    assert await shown(seller, status="DRAFT", seller_id=seller.id) == ["draft"]
    first = await browse(admin, status="ANY", limit=3)
    assert (first.headers["link"].endswith('rel="next"'), bool(first.headers["etag"])) == (
        True,
        True,
    )
    assert await shown(admin, status="ANY", limit=3, cursor=first.json()["next_cursor"]) == [
        "draft"
    ]
    for who, wanted, status in (
        (seller, {}, 403),
        (seller, {"seller_id": other.id}, 403),
        (shop.client(), {}, 401),
        (admin, {"status": "?"}, 422),
    ):
        assert (await browse(who, **{"status": "ANY", **wanted})).status_code == status
    for who in (admin, seller, shop.client()):
        assert await shown(who) == ["sold"]


async def test_a_repeat_under_a_key_lists_no_second_game(shop: Shop, seller: Person) -> None:
    key, wanted = {"Idempotency-Key": uuid4().hex}, a_game()

    first = await seller.post("/api/v1/games", json=wanted, headers=key)
    again = await seller.post("/api/v1/products", json=wanted, headers=key)
    other = await seller.post("/api/v1/games", json=a_game(), headers=key)

    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["event-position"] == first.headers["event-position"]
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_refusal_is_not_remembered_under_its_key(shop: Shop, seller: Person) -> None:
    key, sku = {"Idempotency-Key": uuid4().hex}, uuid4().hex
    game = await shop.game(seller, sku=sku)
    wanted = a_game(sku=sku)
    assert (await seller.post("/api/v1/games", json=wanted, headers=key)).status_code == 409

    await seller.delete(f"/api/v1/games/{game['id']}")

    assert (await seller.post("/api/v1/games", json=wanted, headers=key)).status_code == 201


async def test_who_has_a_page_is_not_sent_it_again_until_a_game_on_it_changes(
    shop: Shop, seller: Person
) -> None:
    game, path = await shop.game(seller), f"/api/v1/games?seller_id={seller.id}"
    first = await shop.client().get(path, headers=await shop.reached())
    known = {"If-None-Match": first.headers["etag"]}

    again = await shop.client().get(path, headers=known)
    edited = await seller.put(f"/api/v1/games/{game['id']}", json={"title": "Celeste 64"})
    changed = await shop.client().get(
        path, headers={**known, "Min-Position": edited.headers["event-position"]}
    )

    assert (again.status_code, again.content) == (304, b"")
    assert int(again.headers["event-position"]) >= int(first.headers["event-position"])
    assert (changed.status_code, changed.json()["items"][0]["title"]) == (200, "Celeste 64")


async def test_a_list_tells_how_many_there_are_of_games_that_can_run_out(
    shop: Shop, seller: Person
) -> None:
    boxed, uncounted = (
        await shop.game(seller, kind="PHYSICAL"),
        await shop.game(seller, kind="PHYSICAL"),
    )
    digital = await shop.game(seller)
    await shop.commands.inventory.set_total(
        Caller(f"user:{seller.id}", seller.id, "SELLER"), UUID(boxed["id"]), 7
    )

    for path in (
        f"/api/v1/games?seller_id={seller.id}",
        f"/api/v1/catalog/products/by-seller/{seller.id}",
        f"/api/v1/games/search?seller_id={seller.id}",
    ):
        listed = await seller.get(path, headers=await shop.reached())
        available = {game["id"]: game["available"] for game in listed.json()["items"]}
        assert available == {boxed["id"]: 7, uncounted["id"]: 0, digital["id"]: None}
