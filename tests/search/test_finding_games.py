"""What people type, and what they find. Every test runs on both engines."""

import pytest

from domain.text import is_visible
from projections.search.text import take_apart
from queries.search.popular import PopularGame, PopularGames
from queries.search.searching import GameSearch, InvalidCursor, SearchQuery, SearchResult
from tests.support.shops.search import BOB, SHOP, game_id


async def find(search: GameSearch, q: str = "", **fields: object) -> SearchResult:
    return await search.search(SearchQuery(q=q, **({"currency": "USD"} | fields)))  # type: ignore[arg-type]


def titles(result: SearchResult) -> list[str]:
    return [item.document.title for item in result.items]


@pytest.mark.parametrize(
    ("typed", "title"),
    [
        ("witcher 3", "The Witcher® 3: Wild Hunt"),
        ("wicher 3", "The Witcher® 3: Wild Hunt"),
        ("the witcher iii", "The Witcher® 3: Wild Hunt"),
        ("wild hunt", "The Witcher® 3: Wild Hunt"),
        ("hunt wild", "The Witcher® 3: Wild Hunt"),
        ("stalker 2", "S.T.A.L.K.E.R. 2: Heart of Chornobyl"),
        ("s.t.a.l.k.e.r. 2", "S.T.A.L.K.E.R. 2: Heart of Chornobyl"),
        ("counterstrike", "Counter-Strike"),
        ("counter strike source", "Counter-Strike: Source"),
        ("csgo", "Counter-Strike: Global Offensive"),
        ("cs go", "Counter-Strike: Global Offensive"),
        ("fallout nv", "Fallout: New Vegas®"),
        ("civ 6", "Sid Meier’s Civilization® VI"),
        ("civilisation vi", "Sid Meier’s Civilization® VI"),
        ("gta 5", "Grand Theft Auto V"),
        ("gta v", "Grand Theft Auto V"),
        ("gtav", "Grand Theft Auto V"),
        ("gta san andreas", "Grand Theft Auto: San Andreas"),
        ("tf2", "Team Fortress 2"),
        ("l4d2", "Left 4 Dead 2"),
        ("kotor", "STAR WARS™ - Knights of the Old Republic™"),
        ("bf1", "Battlefield™ 1"),
        ("bl2", "Borderlands 2"),
        ("ff7", "FINAL FANTASY VII"),
        ("ffxv", "FINAL FANTASY XV"),
        ("finl fantsy 7", "FINAL FANTASY VII"),
        ("crono triger", "CHRONO TRIGGER®"),
        ("halflife 2", "Half-Life 2"),
        ("half-life", "Half-Life"),
        ("pay day 2", "PAYDAY 2"),
        ("payday2", "PAYDAY 2"),
        ("holow knigt", "Hollow Knight"),
        ("POKEMON CAFE", "Pokémon™ Café"),
        ("assassins creed valhala", "Assassin's Creed Valhalla"),
        ("assassin’s creed", "Assassin's Creed Valhalla"),
        ("hdaes", "Hades"),
        ("冬", "違う冬のぼくら"),
        ("maya and gran colombia", "Sid Meier’s Civilization® VI: Maya & Gran Colombia Pack"),
    ],
)
async def test_typed_titles_find_the_game_first(search: GameSearch, typed: str, title: str) -> None:
    assert titles(await find(search, typed))[0] == title


@pytest.mark.parametrize(
    ("typed", "title"),
    [
        ("!!!", "!!!"),
        ("♥", "♥"),
        ("रानी", "रानी की कहानी"),
        ("राना", "राना"),
        ("ﾎﾟｹﾓﾝ", "ポケモン バトル"),
        ("ポケモン", "ポケモン バトル"),
        ("バトル", "ﾊﾞﾄﾙ"),
        ("legende", "Le\u0301gende e\u0301ternelle"),
        ("Mega Man 10", "Mega Man 10"),
        ("Mega Man X", "Mega Man X"),
        ("mega man x", "Mega Man X"),
        ("cafe", "Cafe"),
        ("Café", "Café"),
        ("Cafe\u0301", "Café"),
        ("expansion pack", "Expansion Pack"),
        ("\\o/", "It's \\o/ time"),
    ],
)
async def test_a_title_is_found_as_it_is_read_and_one_typed_exactly_comes_first(
    search: GameSearch, typed: str, title: str
) -> None:
    result = await find(search, typed)
    assert titles(result)[0] == title
    assert result.suggestion is None
    assert (await search.suggest(typed))[0].title == title


async def test_signs_beside_words_are_found_by_who_types_signs_only(search: GameSearch) -> None:
    assert {*titles(await find(search, "♥"))} == {"♥", "I ♥ Geometry"}
    assert titles(await find(search, "geometry ♥")) == ["I ♥ Geometry"]
    assert titles(await find(search, "%/()")) == []


async def test_every_title_of_the_shop_comes_first_when_it_is_typed(search: GameSearch) -> None:
    for document in SHOP:
        if document.status == "ACTIVE" and is_visible(document.title):
            assert titles(await find(search, document.title))[0] == document.title


async def test_a_game_comes_before_its_add_ons(search: GameSearch) -> None:
    found = titles(await find(search, "the witcher 3 wild hunt"))
    assert found[0] == "The Witcher® 3: Wild Hunt"
    assert {*found[1:3]} == {
        "The Witcher® 3: Wild Hunt - Blood and Wine",
        "The Witcher® 3: Wild Hunt - Expansion Pass",
    }


@pytest.mark.parametrize(
    "typed",
    [
        "???",
        "' OR 1=1; DROP TABLE shop; --",
        'title:"x" AND (NOT *) OR ~ [a TO b] /.*/ \\',
        "a\0b",
        "\0",
        "🎮🕹️",
        "\ud800",
        "%_%",
        "'",
        "-" * 10_000,
        "x" * 10_000,
        "war " * 2_500,
        "﷽" * 200,
        "\u0301\u0301",
        "q" * 64 + " " + "w" * 64,
    ],
)
async def test_nothing_that_can_be_typed_makes_it_fail(search: GameSearch, typed: str) -> None:
    result = await find(search, typed)
    assert result.total == len(result.items) <= 5
    assert await search.suggest(typed) is not None


async def test_a_query_unlike_every_title_finds_nothing(search: GameSearch) -> None:
    result = await find(search, "xylophone quartets")
    assert (result.items, result.total, result.suggestion, result.next_cursor) == (
        [],
        0,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("typed", "suggestion"),
    [
        ("wicher 3", "witcher 3"),
        ("finl fantsy 7", "final fantasy 7"),
        ("pay day 2", "payday 2"),
        ("witcher 3", None),
        ("fallout nv", None),
        ("civ 6", None),
        ("grand theft au", None),
        ("xylophone quartets", None),
    ],
)
async def test_a_misspelt_phrase_is_suggested_as_it_is_spelt(
    search: GameSearch, typed: str, suggestion: str | None
) -> None:
    assert (await find(search, typed)).suggestion == suggestion


@pytest.mark.parametrize(
    ("typed", "marked"),
    [
        ("witcher 3", "The <em>Witcher</em>® <em>3</em>: Wild Hunt"),
        ("fallout nv", "<em>Fallout</em>: <em>New</em> <em>Vegas</em>®"),
        ("civ 6", "Sid Meier’s <em>Civilization</em>® <em>VI</em>"),
        ("halflife 2", "<em>Half</em>-<em>Life</em> <em>2</em>"),
        ("stalker shadow", "<em>S.T.A.L.K.E.R.</em>: <em>Shadow</em> of Chernobyl"),
        ("pokemon", "<em>Pokémon</em>™ Café"),
        (
            "gran colombia",
            "Sid Meier’s Civilization® VI: Maya &amp; <em>Gran</em> <em>Colombia</em> Pack",
        ),
        ("assassins", "<em>Assassin&#x27;s</em> Creed Valhalla"),
        ("parade", "Rock &amp;<em>parade</em>"),
        ("रानी", "<em>रानी</em> की कहानी"),
        ("ﾎﾟｹﾓﾝ", "<em>ポ</em><em>ケ</em><em>モ</em><em>ン</em> バトル"),
        ("legende", "<em>Le\u0301gende</em> e\u0301ternelle"),
        ("!!!", "<em>!!!</em>"),
    ],
)
async def test_the_matching_words_of_the_title_are_marked(
    search: GameSearch, typed: str, marked: str
) -> None:
    assert (await find(search, typed)).items[0].highlight == marked


async def test_only_games_on_sale_are_found(search: GameSearch) -> None:
    assert {*titles(await find(search, "portal"))} == {"Portal", "Portal 2", "Portal Knights"}


async def test_a_library_is_searched_whether_or_not_its_games_are_on_sale(
    search: GameSearch,
) -> None:
    owned = [game_id("Portal Reloaded"), game_id("Portal 2"), game_id("Hades")]
    assert {*titles(await find(search, "portal", game_ids=owned))} == {
        "Portal 2",
        "Portal Reloaded",
    }
    assert (await find(search, game_ids=owned)).total == 3
    assert (await find(search, "portal", game_ids=[])).items == []


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"genre": "rpg", "q": "assassins of kings"}, ["The Witcher 2: Assassins of Kings"]),
        ({"tag": "OPEN WORLD"}, ["The Witcher® 3: Wild Hunt"]),
        ({"tag": "point & click"}, ["Assassin's Creed Valhalla"]),
        ({"platform": "linux"}, ["Hollow Knight"]),
        ({"kind": "PHYSICAL"}, ["Hollow Knight"]),
        ({"category": "toys"}, ["Pokémon™ Café"]),
        ({"seller_id": BOB}, ["Hollow Knight"]),
        ({"q": "portal", "price_max": 0}, ["Portal Knights"]),
        ({"q": "portal", "price_min": 1000, "price_max": 1999}, ["Portal"]),
        ({"q": "portal", "price_min": 1000, "price_max": 3000, "region": "BR"}, ["Portal 2"]),
        (
            {
                "q": "portal",
                "price_min": 1000,
                "price_max": 3000,
                "region": "BR",
                "currency": "BRL",
            },
            ["Portal"],
        ),
        ({"q": "portal", "price_min": 0, "region": "BR", "currency": "JPY"}, []),
        ({"q": "portal", "price_max": 3000, "currency": "BRL"}, ["Portal"]),
        ({"q": "portal", "price_max": 3000, "region": "FR", "currency": "BRL"}, []),
        ({"genre": "rpg", "q": "hades"}, []),
        ({"genre": "'); --"}, []),
        ({"price_min": 10**30}, []),
    ],
)
async def test_filters_hold(
    search: GameSearch, filters: dict[str, object], found: list[str]
) -> None:
    assert titles(await find(search, **filters)) == found  # type: ignore[arg-type]


async def test_the_price_shown_is_the_regions_or_else_that_of_everywhere(
    search: GameSearch,
) -> None:
    def amounts(result: SearchResult) -> dict[str, int | None]:
        return {
            item.document.title: item.price.amount_cents if item.price else None
            for item in result.items
        }

    assert amounts(await find(search, "portal", region="BR")) == {
        "Portal": 2500,
        "Portal 2": 2000,
        "Portal Knights": 0,
    }
    assert amounts(await find(search, "csgo")) == {"Counter-Strike: Global Offensive": None}


@pytest.mark.parametrize(
    ("sort", "region", "order"),
    [
        ("price", "*", ["Portal Knights", "Portal", "Portal 2"]),
        ("-price", "*", ["Portal 2", "Portal", "Portal Knights"]),
        ("price", "BR", ["Portal Knights", "Portal 2", "Portal"]),
        # which is not priced in dollars there
        ("-price", "BR", ["Portal 2", "Portal Knights", "Portal"]),
        ("title", "*", ["Portal", "Portal 2", "Portal Knights"]),
    ],
)
async def test_results_can_be_sorted_otherwise(
    search: GameSearch, sort: str, region: str, order: list[str]
) -> None:
    assert titles(await find(search, "portal", sort=sort, region=region)) == order


async def test_the_newest_comes_first_and_what_has_no_date_last(search: GameSearch) -> None:
    dates = [
        item.document.release_date
        for item in (await find(search, "witcher", sort="release_date")).items
    ]
    assert dates == ["2016-05-30", "2015-05-18", "2011-05-17", None]


async def test_games_without_a_price_come_last_either_way(search: GameSearch) -> None:
    for sort in ("price", "-price"):
        assert (
            titles(await find(search, "counter strike", sort=sort))[-1]
            == "Counter-Strike: Global Offensive"
        )


async def test_misspelt_words_are_found_in_any_sort(search: GameSearch) -> None:
    found = titles(await find(search, "finl fantsy", sort="title"))
    assert found == ["FINAL FANTASY VII", "FINAL FANTASY XV"]


@pytest.mark.parametrize("sort", ["relevance", "price", "-price", "release_date", "title"])
@pytest.mark.parametrize("q", ["", "train simulator route", "portal"])
async def test_pages_show_every_game_once(search: GameSearch, q: str, sort: str) -> None:
    shown, cursor = [], None
    while True:
        page = await find(search, q, sort=sort, limit=30, cursor=cursor)
        shown += [item.document.game_id for item in page.items]
        if (cursor := page.next_cursor) is None:
            break
        assert len(page.items) == 30
    assert len(shown) == len({*shown}) == page.total
    if not q:
        assert page.total == sum(document.status == "ACTIVE" for document in SHOP)


@pytest.mark.parametrize("cursor", ["nonsense", "e30=", "eyJzb3J0IjoicHJpY2UifQ==", "💥"])
async def test_a_cursor_of_another_search_is_refused(search: GameSearch, cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        await find(search, "portal", cursor=cursor)


async def test_facets_count_what_has_every_word(search: GameSearch) -> None:
    facets = (await find(search, "witch")).facets
    assert {each.value: each.count for each in facets.genre} == {"RPG": 4, "Action": 1}
    assert [each.value for each in facets.genre] == ["RPG", "Action"]
    assert {each.value for each in facets.tag} == {"Open World", "Fantasy"}
    prices = (await find(search, "portal", region="BR")).facets.price
    assert [(each.price_min, each.price_max, each.count) for each in prices] == [
        (0, 0, 1),
        (2000, 3999, 1),
    ]
    prices = (await find(search, "portal", region="BR", currency="BRL")).facets.price
    assert [(each.price_min, each.price_max, each.count) for each in prices] == [(2000, 3999, 1)]


async def test_a_facet_counts_spellings_of_a_value_together(search: GameSearch) -> None:
    facets = (await find(search, "spelling")).facets
    assert [(each.value, each.count) for each in facets.genre] == [("Card Game", 3)]
    assert [(each.value, each.count) for each in facets.tag] == [("C", 1), ("C++", 1)]
    assert [(each.value, each.count) for each in facets.platform] == [("Windows", 3)]


async def test_facets_count_what_comes_near_when_nothing_has_every_word(search: GameSearch) -> None:
    facets = (await find(search, "wicher 3")).facets
    assert [(each.value, each.count) for each in facets.genre] == [("RPG", 4)]
    assert [(each.price_min, each.count) for each in facets.price] == [(1000, 4)]


def selling(*titles: str) -> PopularGames:
    """These games of the shop sell well, the first best."""
    return PopularGames(
        [
            PopularGame(game_id(title), 1_000 - place, take_apart(title).canonical)
            for place, title in enumerate(titles)
        ]
    )


async def test_of_many_titles_that_begin_alike_the_one_that_sells_is_suggested(
    search: GameSearch,
) -> None:
    popular = selling("Train Simulator: Route 077", "Portal Reloaded", "Hades")
    for typed in ("tr", "trai", "train sim", "simu", "TRAIN  SIM", "route 0"):
        (first, *_) = await search.suggest(typed, popular=popular)
        assert first.title == "Train Simulator: Route 077", typed
    suggested = [each.title for each in await search.suggest("port", popular=popular)]
    assert suggested[0] == "Portal"
    assert "Portal Reloaded" not in suggested, "which is not on sale any more"


async def test_after_a_blank_the_word_is_whole(search: GameSearch) -> None:
    popular = selling("CounterSide", "Counter-Strike: Source")
    for typed, title in (("counter", "CounterSide"), ("counter ", "Counter-Strike: Source")):
        assert (await search.suggest(typed, popular=popular))[0].title == title


async def test_a_title_that_was_typed_or_mistyped_is_nearer_than_one_that_sells_better(
    search: GameSearch,
) -> None:
    popular = selling("Portal Knights", "Portal 2", "Portal", "Fallout: New Vegas®", "Witch It")
    for typed, title in (
        ("portal", "Portal"),
        ("portal 2", "Portal 2"),
        ("fallut 3", "Fallout 3"),
        ("wicher 3", "The Witcher® 3: Wild Hunt"),
    ):
        assert (await search.suggest(typed, popular=popular))[0].title == title


async def test_a_title_that_was_typed_but_never_sold_comes_after_the_one_that_sells_best(
    search: GameSearch,
) -> None:
    popular = selling("Portal Knights", "Portal 2")
    suggested = [each.title for each in await search.suggest("portal", popular=popular)]
    assert suggested[:3] == ["Portal Knights", "Portal", "Portal 2"]
    assert (await search.suggest("portal"))[0].title == "Portal", "when nothing was sold"


async def test_titles_that_begin_with_what_was_typed_come_in_the_order_of_their_sales(
    search: GameSearch,
) -> None:
    add_on, parent = "The Witcher® 3: Wild Hunt - Expansion Pass", "The Witcher® 3: Wild Hunt"
    popular = selling(add_on, parent, "Witch It")
    suggested = [each.title for each in await search.suggest("witch", popular=popular)]
    assert suggested[:3] == [add_on, parent, "Witch It"]


async def test_a_title_of_two_games_is_suggested_once_in_the_place_of_the_better_one(
    search: GameSearch,
) -> None:
    popular = selling("Café", "Pokémon™ Café")
    suggested = [each.title for each in await search.suggest("caf", popular=popular)]
    assert suggested == ["Café", "Pokémon™ Café"]


async def test_titles_are_suggested_while_typing(search: GameSearch) -> None:
    suggested = await search.suggest("the wit", limit=2)
    assert suggested[0].title == "The Witcher® 3: Wild Hunt"
    assert len(suggested) == 2
    assert [each.title for each in await search.suggest("maya & gr")] == [
        "Sid Meier’s Civilization® VI: Maya & Gran Colombia Pack"
    ]
