"""Lists by keyset: the pages, cursors and filters of every list."""

import base64
from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest

from domain.catalog import GameRetired, GameUpdated, Price
from domain.identity import UserForgotten
from domain.ids import library_id
from domain.notifications import NotificationSent
from domain.orders import OrderCancelled
from queries.accounts import library, notifications, users
from queries.catalog import games
from queries.catalog.games import Browse
from queries.engine.paging import BadCursor, Page
from queries.engine.read_models import QueryResult, ReadModels
from queries.orders import orders
from tests.support.events.history import (
    BUYER,
    SELLER,
    START,
    game_added,
    game_created,
    notice_requested,
    order_created,
    payment_requested,
    registered,
    some_id,
)
from tests.support.shops.projected import Shop

List = Callable[..., Awaitable[QueryResult[Page[Any]]]]


async def everything(page: List, limit: int = 2) -> list[Any]:
    """All items of a list, page by page."""
    items, cursor = [], None
    while True:
        part = (await page(limit=limit, cursor=cursor)).value
        assert len(part.items) <= limit
        items += part.items
        cursor = part.next_cursor
        if cursor is None:
            return items


async def list_games(shop: Shop, *listed: dict[str, Any]) -> ReadModels:
    """List games for sale with these titles."""
    await shop.all_happened([(some_id(each["title"]), [game_created(**each)]) for each in listed])
    return await shop.projected()


async def titles(models: ReadModels, **wanted: Any) -> list[str]:
    """The titles found by browsing, over pages of two."""

    def browse(limit: int, cursor: str | None) -> Awaitable[QueryResult[Page[Any]]]:
        return games.browse(models, Browse(**wanted, limit=limit, cursor=cursor))

    return [game.title for game in await everything(browse)]


def usd(cents: int) -> tuple[Price, ...]:
    return (Price("*", cents, "USD"),)


async def test_browsing_shows_what_is_on_sale_only(shop: Shop) -> None:
    models = await list_games(
        shop, {"title": "A"}, {"title": "B", "status": "DRAFT"}, {"title": "C"}
    )
    await shop.happened(some_id("C"), GameRetired())
    assert await titles(await shop.projected()) == ["A"]
    assert models is not shop.models


async def test_browsing_filters_by_folded_values(shop: Shop) -> None:
    models = await list_games(
        shop,
        {
            "title": "A",
            "genres": ("Índie", "Action"),
            "tags": ("Co-op",),
            "category": "RPG",
            "platforms": ("Linux",),
        },
        {
            "title": "B",
            "genres": ("Action",),
            "tags": ("Co-op",),
            "category": "Racing",
            "platforms": ("Mac",),
        },
    )
    assert await titles(models, genre="INDIE") == ["A"]
    assert sorted(await titles(models, genre="action", tag="co op")) == ["A", "B"]
    assert await titles(models, genre="action", platform="linux", category="rpg") == ["A"]
    assert await titles(models, genre="action", category="puzzle") == []
    assert await titles(models, seller_id=some_id("another seller")) == []
    assert await titles(models, genre="nul\0\ud800") == []


async def test_browsing_compares_the_prices_of_the_region(shop: Shop) -> None:
    models = await list_games(
        shop,
        {"title": "cheap in Brazil", "prices": (Price("*", 3000, "USD"), Price("BR", 500, "BRL"))},
        {"title": "everywhere", "prices": usd(1000)},
        {"title": "Brazil only", "prices": (Price("BR", 2000, "BRL"),)},
    )
    assert await titles(models, sort="price") == ["everywhere", "cheap in Brazil", "Brazil only"]
    assert await titles(models, sort="price", region="BR", currency="BRL") == [
        *("cheap in Brazil", "Brazil only", "everywhere")
    ]
    assert await titles(models, sort="-price", region="BR", currency="BRL") == [
        *("Brazil only", "cheap in Brazil", "everywhere")
    ]
    assert await titles(models, price_max=1000, region="BR", currency="BRL") == ["cheap in Brazil"]
    assert await titles(models, price_max=1000, region="BR", currency="USD") == ["everywhere"]
    assert await titles(models, price_min=1001) == ["cheap in Brazil"]
    # in no region
    assert await titles(models, price_max=600, currency="BRL") == ["cheap in Brazil"]
    assert await titles(models, price_min=10**30) == []
    assert [
        (await games.currency_of(models, region)).value for region in ("BR", "FR", "*", "ZZ")
    ] == [*("BRL", "USD", "USD", "USD")]


async def test_browsing_sorts(shop: Shop) -> None:
    models = await list_games(
        shop,
        {"title": "Éclair", "release_date": date(2020, 1, 1), "prices": usd(500)},
        {"title": "zeta", "release_date": date(2024, 1, 1), "prices": usd(500)},
        {"title": "Alpha", "release_date": None, "prices": ()},
        {"title": "Mid", "release_date": date(2022, 1, 1), "prices": usd(0)},
    )
    assert await titles(models, sort="title") == ["Alpha", "Éclair", "Mid", "zeta"]
    assert await titles(models, sort="release_date") == ["zeta", "Mid", "Éclair", "Alpha"]
    assert await titles(models) == ["Mid", "Alpha", "zeta", "Éclair"]
    by_price = await titles(models, sort="price")
    assert (by_price[0], sorted(by_price[1:3]), by_price[3]) == ("Mid", ["zeta", "Éclair"], "Alpha")
    assert (await titles(models, sort="-price"))[3] == "Alpha"


async def test_a_change_to_a_game_is_seen_at_once(shop: Shop) -> None:
    models = await list_games(shop, {"title": "A"})
    game = (await games.game(models, some_id("A"))).value
    assert game is not None
    assert (game.title, game.version, [price.amount_cents for price in game.prices]) == (
        "A",
        1,
        [1499, 4699],
    )
    position = await shop.happened(some_id("A"), GameUpdated(title="A II"))
    assert await titles(shop.models.reaching(position)) == ["A II"]


async def test_a_seller_sees_drafts_and_retired_games(shop: Shop) -> None:
    models = await list_games(
        shop, {"title": "A"}, {"title": "B", "status": "DRAFT"}, {"title": "X", "seller_id": BUYER}
    )

    def mine(**paging: Any) -> Awaitable[QueryResult[Page[Any]]]:
        return games.by_seller(models, SELLER, **paging)

    assert [(game.title, game.status) for game in await everything(mine, 1)] == [
        ("B", "DRAFT"),
        ("A", "ACTIVE"),
    ]
    drafts = (await games.by_seller(models, SELLER, status="DRAFT")).value.items
    assert [game.title for game in drafts] == ["B"]


async def test_games_are_found_by_their_ids(shop: Shop) -> None:
    models = await list_games(shop, {"title": "A"}, {"title": "B"})
    assert {
        game.title for game in (await games.games(models, [some_id("A"), UUID(int=0)])).value
    } == {"A"}


async def test_users_are_listed_and_filtered(shop: Shop) -> None:
    for n, kind in enumerate(["BUYER", "SELLER", "BUYER"]):
        user_id = UUID(int=n + 1)
        await shop.happened(
            user_id, registered(user_id=user_id, account_type=kind, email=f"{n}@example.com")
        )
    models = await shop.projected()

    async def emails(**wanted: Any) -> list[str]:
        return [
            user.email
            for user in await everything(lambda **paging: users.users(models, **wanted, **paging))
        ]

    assert await emails() == ["2@example.com", "1@example.com", "0@example.com"]
    assert await emails(account_type="BUYER") == ["2@example.com", "0@example.com"]
    assert await emails(mailbox="1@example.com") == ["1@example.com"]
    assert await emails(status="ACTIVE") == []


async def test_orders_are_the_buyers_own_or_everybodys(shop: Shop) -> None:
    for n in range(5):
        order_id, payment_id = some_id(f"order {n}"), some_id(f"payment {n}")
        buyer = BUYER if n % 2 else SELLER
        await shop.all_happened(
            [
                (order_id, [order_created(buyer_id=buyer, payment_id=payment_id)]),
                (payment_id, [payment_requested(order_id=order_id, buyer_id=buyer)]),
            ]
        )
    await shop.happened(some_id("order 3"), OrderCancelled(reason="buyer"))
    models = await shop.projected()

    async def found(**wanted: Any) -> list[UUID]:
        return [
            each.order_id
            for each in await everything(lambda **paging: orders.orders(models, **wanted, **paging))
        ]

    def ids(*numbers: int) -> list[UUID]:
        return [some_id(f"order {n}") for n in numbers]

    assert await found() == ids(4, 3, 2, 1, 0)
    assert await found(user_id=BUYER) == ids(3, 1)
    assert await found(user_id=BUYER, status="PENDING_PAYMENT") == ids(1)
    assert await found(status="CANCELLED") == ids(3)
    page = (await orders.orders(models, user_id=BUYER)).value
    assert all(each.payment is not None and each.payment.method == "card" for each in page.items)


async def test_a_library_is_listed_by_genre_and_by_what_a_search_found(shop: Shop) -> None:
    await list_games(
        shop,
        {"title": "A", "genres": ("Indie",)},
        {"title": "B", "genres": ("RPG",)},
        {"title": "C"},
    )
    for n, title in enumerate("ABC"):
        bought = game_added(
            title=title, game_id=some_id(title), purchase_date=START + timedelta(days=n)
        )
        await shop.happened(library_id(BUYER), bought)
    models = await shop.projected()

    async def owned(**wanted: Any) -> list[str]:
        found = await everything(
            lambda **paging: library.offered_library(
                models, BUYER, viewer_id=BUYER, now=START, **wanted, **paging
            )
        )
        return [game.title for game in found]

    plain = await everything(lambda **paging: library.library(models, BUYER, **paging))
    assert await owned() == [game.title for game in plain] == ["C", "B", "A"]
    assert await owned(genre="indie") == ["C", "A"]
    assert await owned(game_ids=[some_id("B"), some_id("not owned")]) == ["B"]
    assert await owned(game_ids=[]) == []
    assert set((await library.owned_ids(models, BUYER)).value) == {
        some_id(title) for title in "ABC"
    }
    assert (await library.owned_ids(models, SELLER)).value == []


async def test_notices_are_listed_the_newest_first(shop: Shop) -> None:
    for n, channel in enumerate(("email", "push", "email")):
        await shop.happened(
            some_id(f"notice {n}"), notice_requested(template=f"t{n}", channel=channel)
        )
    await shop.happened(some_id("notice 0"), NotificationSent())
    models = await shop.projected()

    async def listed(**wanted: Any) -> list[str]:
        found = await everything(
            lambda **paging: notifications.notifications(models, BUYER, **wanted, **paging)
        )
        return [notice.template for notice in found]

    assert await listed() == ["t2", "t1", "t0"]
    assert await listed(status="SENT") == ["t0"]
    assert await listed(channel="email", status="REQUESTED") == ["t2"]
    assert (await notifications.notifications(models, SELLER)).value == Page([], None)


async def test_the_notices_of_a_forgotten_person_are_not_listed(shop: Shop) -> None:
    await shop.happened(BUYER, registered())
    await shop.happened(some_id("notice"), notice_requested())
    assert len((await notifications.notifications(await shop.projected(), BUYER)).value.items) == 1
    await shop.happened(BUYER, UserForgotten())
    assert (await notifications.notifications(await shop.projected(), BUYER)).value.items == []


def forged(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "", "%", "ä", "aGVsbG8", forged(b"new:"), forged(b"new:[]"), forged(b'new:["x"]'),
        forged(b"new:[1e400]"),
        forged(b"new:[99999999999999999999]"), forged(b"title:[1]"), forged(b'title:["a"]'),
        forged(b"\xff\xfe:[1]"),
        forged(b"new:[1,2]"), forged(b"new:[" + b"[" * 5000),
    ],
)  # fmt: skip
async def test_a_forged_cursor_is_refused(shop: Shop, cursor: str) -> None:
    with pytest.raises(BadCursor):
        await games.browse(shop.models, Browse(cursor=cursor))
    with pytest.raises(BadCursor):
        await games.browse(shop.models, Browse(sort="title", cursor=cursor))


async def test_a_cursor_of_another_order_is_refused(shop: Shop) -> None:
    models = await list_games(shop, {"title": "A"}, {"title": "B"})
    cursor = (await games.browse(models, Browse(sort="price", limit=1))).value.next_cursor
    with pytest.raises(BadCursor):
        await games.browse(models, Browse(sort="title", cursor=cursor))


async def test_a_cursor_with_any_text_in_it_does_no_harm(shop: Shop) -> None:
    models = await list_games(shop, {"title": "A"})
    for text in ("\0", "\U0010ffff", "'; DROP TABLE read.games_1; --"):
        cursor = forged(
            b"title:"
            + b'["%s","%s"]' % (text.encode().replace(b"\0", rb"\u0000"), str(BUYER).encode())
        )
        await games.browse(models, Browse(sort="title", cursor=cursor))
    assert await titles(models) == ["A"]


async def test_a_page_has_at_most_two_hundred_items_and_at_least_one(shop: Shop) -> None:
    models = await list_games(shop, *({"title": f"game {n}"} for n in range(205)))
    assert len((await games.browse(models, Browse(limit=10**9))).value.items) == 200
    assert len((await games.browse(models, Browse(limit=-1))).value.items) == 1
