"""How titles and queries are taken apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.search_text import canonical, is_add_on, take_apart, words, words_with_places
from queries.highlight import highlight
from queries.search_port import read_typed


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("NieR:Automata™", "nier automata"),
        ("Pokémon Éclair", "pokemon eclair"),
        ("Sid Meier’s Civilization® VI: Maya &amp;amp; Gran", "sid meiers civilization vi maya and gran"),
        ("S.T.A.L.K.E.R.: Clear Sky", "stalker clear sky"),
        ("S.T.A.L.K.E.R.2", "stalker 2"),
        ("v1.0.2", "v1 0 2"),
        ("ＦＵＬＬ　ＷＩＤＴＨ", "full width"),
        ("Œuvre Straße Łódź", "oeuvre strasse lodz"),
        ("e\u0301clair", "eclair"),
        ("重返深渊 2", "重 返 深 渊 2"),
        ("ヒトカラ", "ヒ ト カ ラ"),
        ("???", ""),
    ],
)
def test_spellings_that_people_hold_for_the_same_fold_alike(text: str, folded: str) -> None:
    assert " ".join(words(text)) == folded


def test_roman_numerals_are_numbers() -> None:
    assert canonical(["i", "iv", "ix", "xiv", "xxxix", "vii", "mix", "iiii", "x2"]) == [
        *("1", "4", "9", "14", "39", "7"),
        *("mix", "iiii", "x2"),
    ]


@pytest.mark.parametrize(
    ("title", "lexemes"),
    [
        ("Fallout: New Vegas", {"=nv", "=fnv", "+newvegas", "fallout"}),
        ("Grand Theft Auto V", {"=gta", "=gta5", "=gtav", "v", "5"}),
        ("Left 4 Dead 2", {"=l4d2", "=l4d"}),
        ("Battlefield 1", {"=bf", "=bf1"}),
        ("Half-Life", {"+halflife", "=hl", "half", "life"}),
    ],
)
def test_a_title_is_also_its_abbreviations_and_its_words_run_together(title: str, lexemes: set[str]) -> None:
    assert lexemes <= {*take_apart(title).lexemes}


@pytest.mark.parametrize(
    ("text", "add_on"),
    [
        ("the sims 4 growing together expansion pack", True),
        ("rain world soundtrack", True),
        ("dying light season pass", True),
        ("rain world", False),
        ("packer", False),
    ],
)
def test_add_ons_are_told_from_games(text: str, add_on: bool) -> None:
    assert is_add_on(text) is add_on


@given(st.text(max_size=60))
def test_every_word_has_its_place_in_the_text(text: str) -> None:
    places = [(word.start, word.end) for word in words_with_places(text)]
    assert all(0 <= start < end <= len(text) for start, end in places)
    assert places == sorted(places)


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_title_and_any_query_can_be_taken_apart(title: str, query: str) -> None:
    take_apart(title)
    typed = read_typed(query)
    marked = highlight(title, typed.words if typed else [])
    assert "<" not in marked.replace("<em>", "").replace("</em>", "")
