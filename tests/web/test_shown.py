"""Amounts, covers and times as pages show them."""

from datetime import UTC, datetime
from uuid import UUID
from xml.etree import ElementTree

import pytest

from web import money
from web.covers import _MOST_LINES, _PALETTES, _WIDTH, _contrasts, _width, cover, set_in_lines
from web.navigation import CONSOLE, DESK, Navigation, entry_of
from web.rendering import moment, with_code, with_ids
from web.visit import own_path
from web.words import platform


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (1999, "USD", "$19.99"),
        (150000, "JPY", "¥150,000"),
        (-5, "EUR", "-€0.05"),
        (19990, "KWD", "19.990 KWD"),
        (0, "USD", "$0.00"),
    ],
)
def test_an_amount_has_the_decimals_of_its_currency(amount: int, currency: str, text: str) -> None:
    assert money.shown(amount, currency) == text
    assert money.typed(money.plain(amount, currency), currency) == amount


@pytest.mark.parametrize(
    "text",
    ["", "x", "1.234", "1,000", "1.000", "1,000.00", "NaN", "Infinity", "1e999999", "--1"],
)
def test_what_is_no_amount_is_none(text: str) -> None:
    assert money.typed(text, "USD") is None


def test_a_separator_of_thousands_is_never_read_as_one_of_decimals() -> None:
    assert money.typed("1,000", "JPY") is None
    assert money.typed("1,50", "USD") == 150
    assert money.typed("1,000", "KWD") == 1000


@pytest.mark.parametrize(
    "title", ["Outer Wilds", "", "!!!", "משחק הכיסא", "<b>&", "🎲 Dice", "x" * 300]
)
def test_a_cover_is_an_image_and_always_the_same(title: str) -> None:
    drawn = cover(title)

    ElementTree.fromstring(drawn)
    cover.cache_clear()
    assert cover(title) == drawn


@pytest.mark.parametrize(
    ("title", "direction"),
    [
        ("Dune: Imperium", "ltr"),
        ("מלך: השיבה", "rtl"),
        ("«الرمال»: 2", "rtl"),
        ("2048", "ltr"),
        ("3 مدن", "rtl"),
    ],
)
def test_a_title_runs_on_its_cover_as_its_first_letter_says(title: str, direction: str) -> None:
    drawn = ElementTree.fromstring(cover(title))
    assert drawn.find("g[@direction]").get("direction") == direction  # type: ignore[union-attr]


def test_marks_over_letters_take_no_room_of_a_cover() -> None:
    marked = "".join(f"{letter}\u0301\u0323" for letter in "Zalgo returns")
    assert set_in_lines(marked)[0] == set_in_lines("Zalgo returns")[0]


def test_covers_differ() -> None:
    assert len({cover(f"Game {number}") for number in range(50)}) == 50


@pytest.mark.parametrize(
    "title",
    [
        "It",
        "Outer Wilds",
        "Baldur's Gate 3: Digital Deluxe Edition",
        "x" * 300,
        "ab " * 99,
        "ゲーム" * 40,
    ],
    ids=["short", "two words", "five words", "one long word", "many words", "wide letters"],
)
def test_a_title_fits_its_cover(title: str) -> None:
    size, lines = set_in_lines(title.strip())

    assert len(lines) <= _MOST_LINES
    assert all(_width(line) * size <= _WIDTH for line in lines)
    if len(title) < 50:
        assert " ".join(lines) == title


@pytest.mark.parametrize("palette", _PALETTES)
def test_letters_can_be_read(palette: tuple[str, str, str]) -> None:
    ground, _, ink = palette
    assert _contrasts(ground, ink)


def test_a_time_says_which_it_is_in_utc() -> None:
    shown = moment(datetime(2026, 3, 1, 9, 5, tzinfo=UTC), "relative")

    assert 'datetime="2026-03-01T09:05:00+00:00"' in shown
    assert 'title="1 Mar 2026, 09:05 UTC"' in shown


@pytest.mark.parametrize(
    ("text", "path"), [("/a?b=c", "/a?b=c"), ("//x", "/"), ("x", "/"), ("", "/")]
)
def test_only_paths_of_this_site_are_gone_to(text: str, path: str) -> None:
    assert own_path(text) == path


def test_names_of_fields_in_a_text_are_code() -> None:
    assert with_code("the `note` is <theirs>") == "the <code>note</code> is &lt;theirs&gt;"


def test_ids_in_a_text_lead_to_what_they_are_of() -> None:
    text = with_ids(f"order {UUID(int=1)} waits for <it>")
    assert f'href="/console/find?id={UUID(int=1)}"' in text
    assert "<code>00000000…</code></a> waits for &lt;it&gt;" in text
    assert with_ids("nothing") == "nothing"


def test_platforms_are_written_as_their_makers_do() -> None:
    assert [platform(name) for name in ("mac", "Windows", "Amiga")] == ["macOS", "Windows", "Amiga"]


@pytest.mark.parametrize(
    ("path", "navigation", "entry"),
    [
        ("/sell", DESK, "/sell"),
        ("/sell/games/7", DESK, "/sell/games"),
        ("/sell/games/new", DESK, "/sell/games/new"),
        ("/console/ledger/accounts/x", CONSOLE, "/console/ledger"),
        ("/console/events/7", CONSOLE, ""),
    ],
)
def test_a_page_belongs_to_the_nearest_entry(path: str, navigation: Navigation, entry: str) -> None:
    assert entry_of(path, navigation) == entry
