"""Ranks search results, in our own code, so that every engine answers alike.

An engine proposes candidates generously. Each is read in several ways (from its start, from a later
word, without spaces, word by word), and the cheapest reading, in edits, is its cost. Games come
before their add-ons.
"""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from functools import lru_cache
from uuid import UUID

import msgspec
from rapidfuzz.distance import OSA

from projections.search.text import as_read, canonical, compounds, initials, trigrams

FAR = 99.0
"""The cost of a title that does not match."""

LATER_WORD = 0.6
AFTER_THE = 0.1
SQUASHED = 0.3
WORD_BY_WORD = 0.3
UNFINISHED_WORD = 0.15
ABBREVIATED = 0.1
COMPOUND = 0.4
SKIPPED_WORD = 0.1
WORDS_OUT_OF_ORDER = 2.0

EDITS_CONSIDERED = 4
"""The most edits in one reading; with more, the title does not match."""

STRETCH = 3
"""By how many letters a mistyped prefix may be longer or shorter."""


class Candidate(msgspec.Struct, frozen=True):
    """A game that may be meant: `text`, `canonical` and `rank` as in `SearchText`, `strict` if it
    has every word."""

    game_id: UUID
    title: str
    text: str
    canonical: str
    rank: float
    strict: bool


class Ranked(msgspec.Struct, frozen=True):
    """A candidate and its cost: roughly the number of edits between it and what was typed."""

    candidate: Candidate
    cost: float


def ranked(words: Sequence[str], candidates: Sequence[Candidate], query: str = "") -> list[Ranked]:
    """The candidates, best first, without those too far from what was typed. `words` are those of
    the query; a title that was typed exactly comes first."""
    typed, numbered = tuple(words), tuple(canonical(words))
    found = [
        Ranked(candidate, _candidate_cost(typed, numbered, candidate)) for candidate in candidates
    ]
    points = _points(numbered, found)
    points |= {
        each.game_id: -FAR * (1 + alike)
        for each in candidates
        if (alike := _alike(query, typed, each))
    }
    order = sorted(found, key=lambda each: (points[each.candidate.game_id], each.candidate.game_id))
    nearest = min((each.cost for each in found), default=FAR)
    if nearest == 0:  # a title without any typo comes first, whatever its other points
        best = next(each for each in order if each.cost <= AFTER_THE)
        order = [best, *(each for each in order if each is not best)]
    return _near_enough(order, nearest, sum(map(len, words)))


def _alike(query: str, typed: tuple[str, ...], candidate: Candidate) -> int:
    """How exactly a title was typed: 3 exactly; 2 except case and width; 1 except accents and
    signs; 0 otherwise."""
    if query.strip() == candidate.title.strip():
        return 3
    if as_read(query) == as_read(candidate.title):
        return 2
    return int(" ".join(typed) == candidate.text)


def _points(typed: tuple[str, ...], found: Sequence[Ranked]) -> dict[UUID, float]:
    """Points by game, the lower the better: the cost, adjusted by what else speaks for or against a
    game."""
    text, pieces = " ".join(typed), frozenset(trigrams(typed))
    titles = {each.candidate.canonical for each in found}
    parents = _parents(titles)
    add_ons = Counter(parents.values())
    nearest = min((each.cost for each in found), default=FAR)
    complete = any(f"{title} ".startswith(f"{text} ") for title in titles)

    def points(candidate: Candidate, cost: float) -> float:
        title = candidate.canonical
        if title == text:
            return -FAR
        lacking = 0 if candidate.strict else 1 - len(pieces & _pieces(title)) / len(pieces)
        prominence = 0.25 * (candidate.rank == 1) * (
            1 if title in parents else 2
        ) + 0.15 * math.log1p(add_ons[title])
        mistyped_whole = 0.0
        if (
            not complete
            and cost > 0
            and OSA.distance(text, title, score_cutoff=EDITS_CONSIDERED) <= cost
        ):
            mistyped_whole = 0.4 if nearest > 0 else 1.8
        return cost + 0.8 * lacking + 0.004 * len(title) - prominence - mistyped_whole

    return {each.candidate.game_id: points(each.candidate, each.cost) for each in found}


def _candidate_cost(
    typed: tuple[str, ...], numbered: tuple[str, ...], candidate: Candidate
) -> float:
    cost = _cost(typed, tuple(candidate.text.split()))
    if cost > 0 and (typed != numbered or candidate.text != candidate.canonical):
        cost = min(cost, _cost(numbered, tuple(candidate.canonical.split())))
    return min(cost, WORDS_OUT_OF_ORDER) if candidate.strict else cost


def _near_enough(found: list[Ranked], nearest: float, letters: int) -> list[Ranked]:
    """The candidates without those too far away for typos, or more than two typos further than the
    nearest."""
    limit = min(nearest + 2, max(2, 1 + 0.2 * letters))
    return [each for each in found if each.candidate.strict or each.cost <= limit]


def _parents(titles: Collection[str]) -> dict[str, str]:
    """For each title that continues another one, the longest such other. (A number makes a sequel,
    which does not count.)"""
    parents = {}
    for title in titles:
        words = title.split()
        for length in range(len(words) - 1, 0, -1):
            start = " ".join(words[:length])
            if start in titles:
                if not words[length].isdigit():
                    parents[title] = start
                break
    return parents


@lru_cache(maxsize=8192)
def _pieces(text: str) -> frozenset[str]:
    return frozenset(trigrams(text.split()))


def _cost(typed: tuple[str, ...], title: tuple[str, ...]) -> float:
    """The cheapest reading of what was typed as (a part of) the title."""
    query, text = " ".join(typed), " ".join(title)
    cost = _distance_to_start(query, text, FAR)
    later = 0
    for number, word in enumerate(title[:-1]):
        later += len(word) + 1
        extra = AFTER_THE if number == 0 and word == "the" else LATER_WORD
        if extra < cost:
            cost = min(cost, extra + _distance_to_start(query, text[later:], cost - extra))
    if cost > SQUASHED:
        cost = min(
            cost, SQUASHED + _distance_to_start("".join(typed), "".join(title), cost - SQUASHED)
        )
    if cost > WORD_BY_WORD:
        cost = min(cost, WORD_BY_WORD + _word_by_word(typed, title, cost - WORD_BY_WORD))
    return cost


def _distance_to_start(query: str, text: str, limit: float) -> float:
    """The edits from the query to the nearest prefix of the text, if fewer than the limit."""
    if text.startswith(query):
        return 0
    most = EDITS_CONSIDERED if limit > EDITS_CONSIDERED else math.ceil(limit) - 1
    size = len(query)
    best = OSA.distance(query, text[:size], score_cutoff=most + STRETCH)
    # one letter more or less changes the distance by one edit at most
    if best > most + STRETCH:
        return FAR
    for length in range(max(1, size - STRETCH), min(len(text), size + STRETCH) + 1):
        best = min(best, OSA.distance(query, text[:length], score_cutoff=min(best, most)))
    return best if best <= most else FAR


def _word_by_word(typed: tuple[str, ...], title: tuple[str, ...], limit: float) -> float:
    """The cost, if below the limit, of matching the typed words, in order, to words of the title,
    some of which may be skipped. A typed word may be a prefix of one, an abbreviation of several,
    or mistyped."""
    short = _abbreviations(title)
    # the cheapest cost, by number of the title's words used
    behind = {0: 0.0} | dict.fromkeys(range(1, len(title)), LATER_WORD)
    for word in typed:
        ahead: dict[int, float] = {}
        reach = FAR
        for place, other in enumerate(title):
            reach = min(reach + SKIPPED_WORD, behind.get(place, FAR))
            if reach >= limit:
                continue
            cost = reach + _word_cost(word, other)
            if cost < ahead.get(place + 1, limit):
                ahead[place + 1] = cost
            for end, extra in short.get((word, place), ()):
                ahead[end] = min(ahead.get(end, FAR), reach + extra)
        if not ahead:
            return FAR
        behind = ahead
    return min(behind.values())


@lru_cache(maxsize=2048)
def _abbreviations(title: tuple[str, ...]) -> dict[tuple[str, int], list[tuple[int, float]]]:
    """By abbreviation and its start: its ends, each with the cost."""
    found: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for way, cost in ((initials, ABBREVIATED), (compounds, COMPOUND)):
        for short, start, end in way(title):
            found.setdefault((short, start), []).append((end, cost))
    return found


@lru_cache(maxsize=8192)
def _word_cost(word: str, other: str) -> float:
    if word == other:
        return 0
    if other.startswith(word):
        return UNFINISHED_WORD
    allowed = 0 if len(word) < 3 else 1 if len(word) < 6 else 2
    distance = OSA.distance(word, other, score_cutoff=allowed)
    return distance if distance <= allowed else FAR
