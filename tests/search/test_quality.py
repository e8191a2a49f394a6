"""How well the search finds 11,002 real titles. Every test runs on both engines."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Sequence

import pytest

from projections.search.document import GameDocument, derive
from projections.search.text import folded
from queries.search.popular import PopularGame, PopularGames
from queries.search.searching import GameSearch, SearchQuery
from tests.support.typed_queries import Case, cases, purchases

FIRST = 5
TITLES = 200
LETTERS = 4
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


@pytest.mark.parametrize("seed", [1])
async def test_four_letters_suggest_what_people_buy(
    real_search: GameSearch, real_titles: list[GameDocument], seed: int
) -> None:
    """Half of the people, chosen at random, are known; what the others bought is looked for."""
    everybody = purchases(real_titles)
    people = sorted({person for person, _ in everybody})
    known = set(random.Random(seed).sample(people, len(people) // 2))
    popular = selling([game for person, game in everybody if person in known])
    wanted = defaultdict[str, Counter[str]](Counter)
    for person, game in everybody:
        if person not in known:
            title = folded(game.title)
            wanted[title[:LETTERS]][title] += 1
    first = among = 0
    for letters, titles in wanted.items():
        found = await real_search.suggest(letters, FIRST, popular)
        suggested = [folded(each.title) for each in found]
        first += sum(titles[title] for title in suggested[:1])
        among += sum(titles[title] for title in suggested)
    purchased = sum(titles.total() for titles in wanted.values())
    assert first / purchased >= 0.70, (first, among, purchased)
    assert among / purchased >= 0.94, (first, among, purchased)


def selling(games: Sequence[GameDocument]) -> PopularGames:
    """The games, as often as they were sold."""
    sold = Counter(game.game_id for game in games)
    canonical = {game.game_id: derive(game).text.canonical for game in games}
    return PopularGames([PopularGame(*each, canonical[each[0]]) for each in sold.most_common()])


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
