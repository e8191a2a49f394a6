from datetime import date, timedelta

import msgspec

from domain.catalog import (
    GamePublished,
    GameResumed,
    GameRetired,
    GameSuspended,
    GameUpdated,
    Price,
)
from domain.events import Event
from projections.models.games import Game, Games, PriceRow, Reduction
from tests.support.events.history import GAME, SELLER, START, History, at, game_created


def game_after(*events: Event) -> Game:
    row = History().happened(GAME, *events).row(Games(), GAME)
    assert isinstance(row, Game)
    return row


def test_a_game_shows_what_its_seller_said() -> None:
    game = game_after(game_created(release_date=date(2017, 2, 24)))
    assert (game.game_id, game.seller_id, game.title, game.sku) == (
        GAME,
        SELLER,
        "Hollow Knight",
        "HK-1",
    )
    assert game.prices == [PriceRow("*", 1499, "USD"), PriceRow("BR", 4699, "BRL")]
    assert (game.genres, game.status, game.version) == (["Action", "Índie"], "ACTIVE", 1)


def test_a_game_is_browsed_by_folded_values() -> None:
    game = game_after(game_created())
    assert game.filters == sorted(
        [
            "category:metroidvania",
            "genre:action",
            "genre:indie",
            "kind:digital",
            "platform:linux",
            "tag:hard",
        ]
    )
    assert game.title_key == "hollow knight"


def test_a_game_has_the_prices_by_region_that_browsing_compares() -> None:
    game = game_after(game_created())
    assert game.region_prices == {
        "everywhere": {"USD": 1499},
        "in_br": {"BRL": 4699},
        "anywhere": {"USD": 1499, "BRL": 4699},
    }


def test_an_update_changes_what_it_names_and_what_is_derived_from_it() -> None:
    game = game_after(
        game_created(),
        GameUpdated(
            title="Silksong",
            prices=(Price("*", 0, "USD"),),
            genres=(),
            release_date=date(2025, 9, 4),
        ),
    )
    assert (game.title, game.title_key, game.publisher) == ("Silksong", "silksong", "Team Cherry")
    assert game.prices == [PriceRow("*", 0, "USD")]
    assert game.region_prices == {"everywhere": {"USD": 0}, "anywhere": {"USD": 0}}
    assert (game.genres, game.released) == ([], "2025-09-04")
    assert not any(key.startswith("genre:") for key in game.filters)
    assert (game.version, game.created_at, game.updated_at) == (2, at(1), at(2))


def test_a_draft_is_published_and_retired() -> None:
    assert game_after(game_created(status="DRAFT")).status == "DRAFT"
    assert game_after(game_created(status="DRAFT"), GamePublished()).status == "ACTIVE"
    assert game_after(game_created(), GameRetired()).status == "RETIRED"


def test_a_game_is_off_sale_while_its_sellers_account_is_closed() -> None:
    assert game_after(game_created(), GameSuspended()).status == "SUSPENDED"
    assert game_after(game_created(), GameSuspended(), GameResumed()).status == "ACTIVE"


def test_texts_lose_the_sign_that_the_database_cannot_hold() -> None:
    game = game_after(
        game_created(title="A\0B", tags=("x\0",), prices=()), GameUpdated(description="\0")
    )
    assert (game.title, game.tags, game.description, game.region_prices) == ("AB", ["x"], "", {})


def test_a_lowered_price_is_reduced_by_region_and_a_draft_s_is_not() -> None:
    steps: list[tuple[int, Event]] = [
        (0, game_created(status="DRAFT", prices=(Price("*", 9000, "USD"),))),
        (5, GameUpdated(prices=(Price("*", 3000, "USD"), Price("BR", 5000, "BRL")))),
        (6, GamePublished()),
        (10, GameUpdated(prices=(Price("*", 2000, "USD"), Price("BR", 5000, "BRL")))),
    ]
    history = History()
    for number, (day, event) in enumerate(steps):
        history.happened(GAME, event)
        recorded = history.events[number]
        moved = msgspec.structs.replace(recorded.env, occurred_at=START + timedelta(days=day))
        history.events[number] = msgspec.structs.replace(recorded, env=moved)

    game = history.row(Games(), GAME)

    assert game is not None
    until = START + timedelta(days=40)
    assert game.reductions == {"everywhere": Reduction(3000, until), "in_br": None}
    assert game.reduced_until == until
