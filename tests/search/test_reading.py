"""Costs are found without comparing everything: what is left out changes none of them."""

from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from projections.search.text import compounds, initials
from queries.search.reading import (
    EDITS_CONSIDERED,
    FAR,
    STRETCH,
    Reading,
    _Start,
    may_abbreviate,
)

WORDS = st.lists(st.text("abi3", min_size=1, max_size=9), min_size=1, max_size=5)
LIMITS = st.sampled_from([0.3, 0.6, 1, 1.4, 1.7, 2, 2.6, 4, 5])


@given(WORDS, WORDS, LIMITS)
def test_a_limit_only_leaves_out_what_is_beyond_it(
    typed: list[str], title: list[str], limit: float
) -> None:
    reading = Reading(typed, {*title})
    whole = reading.cost(" ".join(title), FAR)
    assert reading.cost(" ".join(title), limit) == (whole if whole < limit else FAR)


@given(WORDS, WORDS, LIMITS)
def test_the_nearest_prefix_is_found(typed: list[str], title: list[str], limit: float) -> None:
    text, other = " ".join(typed), " ".join(title)
    lengths = range(len(text) - STRETCH, len(text) + STRETCH + 1)
    nearest = min(OSA.distance(text, other[:length]) for length in lengths if length > 0)
    found = _Start(text).distance(other, limit)
    assert found == (nearest if nearest < limit and nearest <= EDITS_CONSIDERED else FAR)


@given(WORDS)
def test_every_abbreviation_may_be_one(title: list[str]) -> None:
    for way in (initials, compounds):
        assert all(may_abbreviate(short, " ".join(title)) for short, _, _ in way(title))
