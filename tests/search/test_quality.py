"""How well the search finds 11,002 real titles. Every test runs on both engines."""

import asyncio
import random
from collections import Counter

import pytest

from projections.search.document import GameDocument, derive
from projections.search.text import folded
from queries.search.popular import PopularGame, PopularGames
from queries.search.searching import GameSearch, SearchQuery
from tests.support.typed_queries import Case, cases, purchases

FIRST = 5
TITLES = 200
LETTERS, PURCHASED = 4, 1_000
WANTED = {"as it is": 1.0, "one typo": 0.99, "two typos": 0.95, "prefix": 0.92, "lost space": 0.98}


@pytest.mark.parametrize("seed", [1])
async def test_titles_are_found_however_they_are_typed(
    real_search: GameSearch, real_titles: list[GameDocument], seed: int
) -> None:
    titles = [document.title for document in random.Random(seed).sample(real_titles, TITLES)]
    typed = cases(titles, seed)
    missed = [
        case
        for case, hit in zip(typed, await found_all(real_search, typed), strict=True)
        if not hit
    ]
    misses = Counter(case.kind for case in missed)
    shares = {kind: 1 - misses[kind] / TITLES for kind in WANTED}
    assert all(shares[kind] >= WANTED[kind] for kind in WANTED), (shares, missed)


@pytest.fixture(scope="module")
def bought(real_titles: list[GameDocument]) -> tuple[PopularGames, list[str]]:
    """What half of the people bought, counted; and a sample of what the others did."""
    everybody = purchases(real_titles)
    people = sorted({person for person, _ in everybody})
    known = set(random.Random(1).sample(people, len(people) // 2))
    sold = Counter(game.game_id for person, game in everybody if person in known)
    canonical = {each.game_id: derive(each).text.canonical for each in real_titles}
    games = [PopularGame(id_, count, canonical[id_]) for id_, count in sold.most_common()]
    unseen = [folded(game.title) for person, game in everybody if person not in known]
    return PopularGames(games), random.Random(1).sample(unseen, PURCHASED)


async def test_four_letters_suggest_what_people_buy(
    real_search: GameSearch, bought: tuple[PopularGames, list[str]]
) -> None:
    popular, titles = bought
    wanted = Counter((title[:LETTERS], title) for title in titles)
    places = Counter[int]()
    for (letters, title), times in wanted.items():
        found = await real_search.suggest(letters, FIRST, popular)
        suggested = [folded(each.title) for each in found]
        places[suggested.index(title) if title in suggested else FIRST] += times
    first, among = places[0] / PURCHASED, 1 - places[FIRST] / PURCHASED
    assert first >= 0.67, (first, among)
    assert among >= 0.93, (first, among)


@pytest.mark.parametrize(
    ("typed", "title"),
    [
        ("witch", "The Witcher® 3: Wild Hunt"),
        ("witcher 3", "The Witcher® 3: Wild Hunt"),
        ("stalker 2", "S.T.A.L.K.E.R. 2: Heart of Chornobyl"),
        ("counterstrike", "Counter-Strike"),
        ("fallout nv", "Fallout: New Vegas"),
        ("civ 6", "Sid Meier’s Civilization® VI"),
        ("gta 5", "Grand Theft Auto V"),
        ("csgo", "Counter-Strike: Global Offensive"),
        ("kotor", "STAR WARS™ - Knights of the Old Republic™"),
        ("bf1", "Battlefield™ 1"),
        ("rdr2", "Red Dead Redemption 2"),
        ("hoi4", "Hearts of Iron IV"),
        ("bg3", "Baldur's Gate 3"),
        ("final fantasy 10", "FINAL FANTASY X/X-2 HD Remaster"),
        ("civilisation vi", "Sid Meier’s Civilization® VI"),
        ("europa universalis 4", "Europa Universalis IV"),
        ("train sim world 3", "Train Sim World® 3"),
        ("hollow night", "Hollow Knight"),
        ("stardew vally", "Stardew Valley"),
        ("cities skylines", "Cities: Skylines"),
        ("dead by daylite", "Dead by Daylight"),
        ("rim world", "RimWorld"),
        ("red dead redemtion", "Red Dead Redemption 2"),
    ],
)
async def test_typed_titles_find_the_game_first_among_all(
    real_search: GameSearch, typed: str, title: str
) -> None:
    result = await real_search.search(SearchQuery(q=typed, limit=FIRST))
    assert result.items[0].document.title == title


async def found_all(search: GameSearch, typed: list[Case]) -> list[bool]:
    """Whether each case's title is among the first results."""
    few_at_once = asyncio.Semaphore(4)

    async def found(case: Case) -> bool:
        async with few_at_once:
            result = await search.search(SearchQuery(q=case.query, limit=FIRST))
        return case.title in [folded(item.document.title) for item in result.items]

    return await asyncio.gather(*map(found, typed))
