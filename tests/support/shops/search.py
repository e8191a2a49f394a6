"""A small shop: games that people look for, and others that are easily confused with them."""

from typing import Any
from uuid import UUID

from domain.ids import derived
from projections.search.document import DocumentPrice, GameDocument

ALICE, BOB = UUID(int=1), UUID(int=2)


def game_id(title: str) -> UUID:
    """The id of the shop's game with that title."""
    return derived("game", title)


def game(title: str, **fields: Any) -> GameDocument:
    """A game on sale for 19.99, with these fields changed."""
    usual: dict[str, Any] = {
        "game_id": game_id(title),
        "seller_id": ALICE,
        "status": "ACTIVE",
        "prices": [DocumentPrice("*", 1999, "USD")],
        "position": 1,
    }
    return GameDocument(title=title, **(usual | fields))


SHOP = [
    game(
        "The Witcher® 3: Wild Hunt",
        genres=["RPG"],
        tags=["Open World", "Fantasy"],
        release_date="2015-05-18",
    ),
    game("The Witcher® 3: Wild Hunt - Blood and Wine", genres=["RPG"], release_date="2016-05-30"),
    game("The Witcher® 3: Wild Hunt - Expansion Pass", genres=["RPG"]),
    game("The Witcher 2: Assassins of Kings", genres=["RPG"], release_date="2011-05-17"),
    game("Witch It", genres=["Action"]),
    game("S.T.A.L.K.E.R. 2: Heart of Chornobyl"),
    game("S.T.A.L.K.E.R.: Shadow of Chernobyl"),
    game("Counter-Strike"),
    game("Counter-Strike: Source"),
    game("Counter-Strike: Global Offensive", prices=[]),
    game("CounterSide"),
    game("Fallout 3"),
    game("Fallout: New Vegas®"),
    game("Fallout New Vegas®: Dead Money"),
    game("Sid Meier’s Civilization® VI"),
    game("Sid Meier’s Civilization® VI: Maya & Gran Colombia Pack"),
    game("Sid Meier's Civilization® V"),
    game("Civilization V - Explorer’s Map Pack"),
    game("Grand Theft Auto V"),
    game("Grand Theft Auto IV"),
    game("Grand Theft Auto: San Andreas"),
    game("Team Fortress 2"),
    game("Team Fortress Classic"),
    game("Left 4 Dead"),
    game("Left 4 Dead 2"),
    game("STAR WARS™ - Knights of the Old Republic™"),
    game("Battlefield™ 1"),
    game("Battlefield™ V"),
    game("Borderlands 2"),
    game("FINAL FANTASY VII"),
    game("FINAL FANTASY XV"),
    game("CHRONO TRIGGER®"),
    game("Half-Life 2"),
    game("Half-Life"),
    game("PAYDAY 2"),
    game("Hollow Knight", kind="PHYSICAL", seller_id=BOB, platforms=["windows", "linux"]),
    game("Pokémon™ Café", genres=["Puzzle"], category="Toys"),
    game("Assassin's Creed Valhalla", tags=["Point & Click"]),
    game("Hades"),
    game("違う冬のぼくら"),
    game("!!!"),
    game("♥"),
    game("I ♥ Geometry"),
    game("Rock &parade"),
    game("रानी की कहानी"),
    game("राना"),
    game("ポケモン バトル"),
    game("ﾊﾞﾄﾙ"),
    game("Mega Man X"),
    game("Mega Man 10"),
    game("Cafe"),
    game("Café"),
    game("Le\u0301gende e\u0301ternelle"),
    game("Expansion Pack"),
    game("It's \\o/ time"),
    game("\u200b"),  # of before such titles were refused
    game("Spelling One", genres=["Card Game", "card game"], tags=["C"], platforms=["Windows"]),
    game("Spelling Two", genres=["Card Game"], tags=["C++"], platforms=["WINDOWS"]),
    game("Spelling Three", genres=["Card  Game"], platforms=["Windows"]),
    game("Portal", prices=[DocumentPrice("*", 1000, "USD"), DocumentPrice("BR", 2500, "BRL")]),
    game("Portal 2", prices=[DocumentPrice("*", 2000, "USD")]),
    game("Portal Knights", prices=[DocumentPrice("*", 0, "USD")]),
    game("Portal Reloaded", status="RETIRED"),
    game("Portal Stories: Mel", status="DRAFT"),
    *(game(f"Train Simulator: Route {number:03}", tags=["Trains"]) for number in range(100)),
]
