"""How titles and queries are split into words."""

import html
import re
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.text import IGNORABLE, is_visible
from projections.search.text import MAX_KEY_BYTES, MAX_TITLE, canonical, is_add_on, take_apart
from projections.search.words import words, words_with_places
from queries.search.highlight import Highlighter
from queries.search.port import read_typed
from tests.support.growth import growth


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("NieR:Automata™", "nier automata"),
        ("Pokémon Éclair", "pokemon eclair"),
        ("Sid Meier’s Civilization® VI: Maya & Gran", "sid meiers civilization vi maya and gran"),
        ("Maya &amp; Gran", "maya and gran"),
        ("Rock &parade", "rock and parade"),
        ("S.T.A.L.K.E.R.: Clear Sky", "stalker clear sky"),
        ("S.T.A.L.K.E.R.2", "stalker 2"),
        ("v1.0.2", "v1 0 2"),
        ("ＦＵＬＬ　ＷＩＤＴＨ", "full width"),
        ("Œuvre Straße Łódź", "oeuvre strasse lodz"),
        ("e\u0301clair", "eclair"),
        ("重返深渊 2", "重 返 深 渊 2"),
        ("ヒトカラ", "ヒ ト カ ラ"),
        ("ﾎﾟｹﾓﾝ ﾊﾞﾄﾙ", "ポ ケ モ ン バ ト ル"),
        ("ピカ・チュウ", "ピ カ チ ュ ウ"),
        ("रानी", "रानी"),
        ("क्\u200dष", "क्ष"),
        ("เกมส์", "เกมส์"),
        ("بَيْتٌ", "بيت"),
        ("שָׁלוֹם", "שלום"),
        ("ᄒ\u1161\u11ab", "한"),
        ("ﾡￂ", "가"),
        ("ΣΟΦΟΣ", "σοφοσ"),
        ("e\u0301\u0323\ufe0fclair", "eclair"),
        ("soft\u00adhyphen", "softhyphen"),
        ("???", "???"),
        ("♥ ♥", "♥ ♥"),
        ("♥ Love", "love"),
        ("❤️", "❤"),
        (" \u200b\u0301", ""),
        ("__", "__"),
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
def test_a_title_is_also_its_abbreviations_and_its_words_run_together(
    title: str, lexemes: set[str]
) -> None:
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
def test_add_ons_are_distinguished_from_games(text: str, add_on: bool) -> None:
    assert is_add_on(text) is add_on


@given(st.text(max_size=60))
def test_every_word_has_its_place_in_the_text(text: str) -> None:
    places = [(word.start, word.end) for word in words_with_places(text)]
    assert all(0 <= start < end <= len(text) for start, end in places)
    assert places == sorted(places)


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_title_and_any_query_can_be_taken_apart(title: str, query: str) -> None:
    apart = take_apart(title)
    assert all(0 < len(key.encode()) <= MAX_KEY_BYTES for key in (*apart.lexemes, *apart.keys))
    assert len(apart.text.encode()) <= 4 * 2 * MAX_TITLE
    assert is_visible(apart.text) == is_visible(title[:MAX_TITLE]) or not apart.text
    typed = read_typed(query)
    marked = Highlighter(typed.words if typed else []).highlight(title)
    assert re.sub("</?em>", "", marked) == html.escape(title)


@given(st.text(max_size=MAX_TITLE))
def test_a_title_that_is_typed_whole_is_looked_for_as_it_is_kept(title: str) -> None:
    apart, typed = take_apart(title), read_typed(title)
    if typed is None:
        assert apart.text == ""
        return
    assert typed.text == apart.text
    for group in typed.strict:
        assert any(
            lexeme.startswith(each.lexeme) if each.unfinished else lexeme == each.lexeme
            for each in group
            for lexeme in apart.lexemes
        ), group


@pytest.mark.parametrize(
    "title", ["㌖" * 150, "﷽" * 300, "𝕬" * 300, "ﬃ" * 300, "a" + "\u0301\u0323" * 149], ids=ascii
)
def test_a_title_that_grows_when_it_is_folded_makes_no_long_lexemes(title: str) -> None:
    apart = take_apart(title)
    assert all(len(key.encode()) <= MAX_KEY_BYTES for key in (*apart.lexemes, *apart.keys))
    assert len(apart.text) <= 2 * MAX_TITLE


def test_what_joins_the_character_before_it_is_known_for_all_of_unicode() -> None:
    """Their table is short, because Unicode gives all others a category that says so."""
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        first = unicodedata.normalize("NFKD", character)[0]
        joins = (
            unicodedata.category(first)[0] == "M"
            or "\u1160" <= first <= "\u11ff"
            or "\ud7b0" <= first <= "\ud7fb"
        )
        if joins and character not in IGNORABLE and unicodedata.category(character) != "Cn":
            assert [(word.start, word.end) for word in words_with_places("x" + character)] == [
                (0, 2)
            ], hex(code)


@pytest.mark.parametrize(
    "part", ["a\u0301\u0323", "\u0301\u0323", "\u0f73", "ﾎﾟ", "&amp;", "!", "\u200d"], ids=ascii
)
def test_folding_takes_no_more_than_the_length_of_a_text(part: str) -> None:
    assert growth(lambda length: words_with_places("a" + part * length), 10_000) <= 3
