"""What readers see of a text, and when two texts look the same to them."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Invalid
from domain.text import (
    check_text,
    comparison_key,
    is_visible,
    reorders,
    trimmed,
    unescaped,
    with_few_marks,
    without_ignorable,
)
from tests.support.growth import growth

NOTHING = [
    "",
    " ",
    "\t\n",
    "\u00a0",
    "\u200b",
    "\u200d\u200c",
    "\ufeff",
    "\u2060",
    "\u3164",
    "\uffa0",
    "\u115f",
]
NOTHING += [
    "\u2800",
    "\u00ad",
    "\ufe0f",
    "\U000e0041",
    "\u0301",
    "\u2028",
    "\0",
    "\u202e",
    "\uffff",
    "\ud800",
]
SOMETHING = ["a", "!", "♥", "0", "रानी", "ポ", "👩‍👩‍👧", "❤️", "\u05d0\u05b0", " \u200bx"]


@pytest.mark.parametrize("text", NOTHING, ids=ascii)
def test_nothing_is_seen(text: str) -> None:
    assert not is_visible(text)


@pytest.mark.parametrize("text", SOMETHING)
def test_something_is_seen(text: str) -> None:
    assert is_visible(text)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("ABC-1 ", "ABC-1"),
        ("\u200bABC-1\u00a0\ufeff", "ABC-1"),
        ("A \u200b B", "A \u200b B"),
        ("❤\ufe0f", "❤\ufe0f"),  # the selector makes it red
        ("\u200b \u3164", ""),
    ],
)
def test_blanks_around_a_text_are_dropped(text: str, rest: str) -> None:
    assert trimmed(text) == rest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ABC-1", "abc-1"),
        ("ABC-1", " ABC-1\u200b"),
        ("ABC-1", "ＡＢＣ－１"),
        ("A  B", "A\u3000B"),
        ("Straße", "STRASSE"),
        ("Café", "Cafe\u0301"),
        ("ﾎﾟｹﾓﾝ", "ポケモン"),
        ("ΣΑΣ", "σας"),
    ],
)
def test_what_reads_the_same_has_one_key(one: str, other: str) -> None:
    assert comparison_key(one) == comparison_key(other)


@pytest.mark.parametrize(
    ("one", "other"), [("ABC-1", "ABC1"), ("Cafe", "Café"), ("रानी", "रन"), ("A B", "AB")]
)
def test_what_reads_differently_has_two_keys(one: str, other: str) -> None:
    assert comparison_key(one) != comparison_key(other)


@pytest.mark.parametrize("text", ["a\u202eb", "\u2066x\u2069", "\u202ax", "a\u206ab"], ids=ascii)
def test_text_that_reorders_what_stands_beside_it_is_refused(text: str) -> None:
    assert reorders(text)
    with pytest.raises(Invalid, match="invalid_title"):
        check_text("title", text, 300)


@pytest.mark.parametrize(
    "text", ["שלום\u200f!", "\u061cسلام", "می\u200cخواهم", "👩\u200d🚀", "क\u094d\u200dष"]
)
def test_marks_and_joiners_that_scripts_need_are_accepted(text: str) -> None:
    check_text("title", text, 300)


@given(st.text())
def test_the_key_of_a_key_is_itself(text: str) -> None:
    key = comparison_key(text)
    assert comparison_key(key) == key
    assert bool(key) or not is_visible(text)


@given(st.text())
def test_trimming_takes_nothing_that_is_seen(text: str) -> None:
    rest = trimmed(text)
    assert rest in text
    assert is_visible(rest) == is_visible(text)
    assert without_ignorable(rest).strip() == without_ignorable(text).strip() or not rest


@given(st.text(st.characters(categories=["Mn", "Mc", "Lo"])))
def test_marks_that_people_write_are_kept(text: str) -> None:
    if all(
        unicodedata.combining(character) == 0 for character in unicodedata.normalize("NFKD", text)
    ):
        assert with_few_marks(text) == text


@pytest.mark.parametrize(
    "marks", ["\u0301\u0323", "\u0f73", "\u0344\u0f71", "\u0301\u034f\u0323"], ids=ascii
)
def test_a_long_run_of_marks_takes_no_more_than_its_length(marks: str) -> None:
    assert growth(lambda length: comparison_key.__wrapped__("a" + marks * length), 10_000) <= 3


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Maya &amp; Gran", "Maya & Gran"),
        ("&amp;amp;", "&amp;"),
        ("Rock &parade", "Rock &parade"),
        ("&parade;", "&parade;"),
        ("AT&T; &copy; &#39;&#x27;&#60;", "AT&T; © ''<"),
        ("&&amp;;", "&&;"),
    ],
)
def test_entities_are_what_they_stand_for_once(text: str, meant: str) -> None:
    assert unescaped(text) == meant
