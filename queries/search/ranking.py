"""Ranks search results, in our own code, so that every engine answers alike.

An engine proposes candidates generously. The cost of each is that of the cheapest
`queries.search.reading` of what was typed. Games come before their add-ons.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

import msgspec
from rapidfuzz.distance import OSA

from projections.search.text import MAX_TITLE, as_read, canonical, trigrams
from queries.search.reading import AFTER_THE, EDITS_CONSIDERED, FAR, Reading

WORDS_OUT_OF_ORDER = 2.0
"""The most that a game with all the words costs."""

ROUNDING = 1e-6

POPULAR_LATER = 0.3
"""What speaks for a game that was sold e times as often, if a later word of its title begins with
what was typed."""

MISTYPED = 1.0
"""From this cost on there is a typo in what was typed: then the nearer title is meant, not the one
that sells better."""

NOTHING: Mapping[UUID, int] = {}


class Candidate(msgspec.Struct, frozen=True, array_like=True):
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


def ranked(
    words: Sequence[str],
    candidates: Sequence[Candidate],
    query: str = "",
    sold: Mapping[UUID, int] = NOTHING,
) -> list[Ranked]:
    """The candidates, best first, without those too far from what was typed. `words` are those of
    the query. `sold` is how often a game was sold, if often.

    A title that was typed exactly comes first; then those that begin with what was typed and were
    sold, by how often; then the others. One that was typed exactly but never sold gives way to the
    one that sells best.
    """
    typed, numbered = list(words), canonical(words)
    found = _costs(typed, numbered, candidates)
    nearest = min((each.cost for each in found), default=FAR)
    near = _near_enough(found, nearest, _letters(typed))
    titles = {each.canonical for each in candidates}
    points = _points(numbered, near, titles, nearest)
    begun: dict[UUID, int] = {}
    for game, many in _bought(numbered, near, sold, finished=query[-1:].isspace()):
        if game.cost <= AFTER_THE:
            begun[game.candidate.game_id] = many
        else:
            points[game.candidate.game_id] -= POPULAR_LATER * math.log1p(many)
    points |= {
        candidate.game_id: -FAR * (1 + alike)
        for candidate, alike in _alike(query, typed, near)
        if alike
    }
    return _in_order(near, points, begun, nearest)


def _in_order(
    near: Sequence[Ranked], points: Mapping[UUID, float], begun: Mapping[UUID, int], nearest: float
) -> list[Ranked]:
    """Those typed whole, then those `begun` by how often they were sold, then the others by
    points."""
    whole = {game_id for game_id, its in points.items() if its <= -FAR}

    def place(each: Ranked) -> tuple[bool, int, float, UUID]:
        id_ = each.candidate.game_id
        many = 0 if id_ in whole else begun.get(id_, 0)
        return id_ not in whole, -many, points[id_], id_

    order = sorted(near, key=place)
    if whole and begun and whole.isdisjoint(begun):
        # nobody bought the title that was typed: a longer one is probably not typed to its end
        first = next(each for each in order if each.candidate.game_id in begun)
    elif nearest == 0:  # a title without any typo comes first, whatever its other points
        first = next(each for each in order if each.cost <= AFTER_THE)
    else:
        return order
    return [first, *(each for each in order if each is not first)]


def _costs(
    typed: Sequence[str], numbered: Sequence[str], candidates: Sequence[Candidate]
) -> list[Ranked]:
    """The cost of each candidate; FAR for any that is too far away whatever the others cost."""
    vocabulary = {
        word
        for each in candidates
        for title in {each.text, each.canonical}
        for word in title.split()
    }
    as_typed = Reading(typed, vocabulary)
    as_numbered = as_typed if typed == numbered else Reading(numbered, vocabulary)
    text, letters = " ".join(typed), _letters(typed)
    nearest = 0.0 if any(each.text.startswith(text) for each in candidates) else FAR
    found = []
    for each in candidates:
        limit = WORDS_OUT_OF_ORDER if each.strict else _limit(nearest, letters) + ROUNDING
        cost = as_typed.cost(each.text, limit)
        if cost > 0 and (typed != numbered or each.text != each.canonical):
            cost = min(cost, as_numbered.cost(each.canonical, min(cost, limit)))
        if each.strict:
            cost = min(cost, WORDS_OUT_OF_ORDER)
        nearest = min(nearest, cost)
        found.append(Ranked(each, cost))
    return found


def _letters(typed: Sequence[str]) -> int:
    return sum(map(len, typed))


def _limit(nearest: float, letters: int) -> float:
    """What a candidate without all the words may cost: no more than typos explain, and no more than
    two typos more than the nearest one."""
    return min(nearest + 2, max(2, 1 + 0.2 * letters))


def _near_enough(found: Sequence[Ranked], nearest: float, letters: int) -> list[Ranked]:
    limit = _limit(nearest, letters)
    return [each for each in found if each.candidate.strict or each.cost <= limit]


def _alike(
    query: str, typed: Sequence[str], found: Sequence[Ranked]
) -> Iterable[tuple[Candidate, int]]:
    """How exactly each title was typed: 3 exactly; 2 except case and width; 1 except accents and
    signs; 0 otherwise."""
    text, stripped, read = " ".join(typed), query.strip(), as_read(query)
    for each in found:
        candidate = each.candidate
        # cheaper to see; a title that was cut may differ
        if not candidate.text.startswith(text) and len(candidate.title) < MAX_TITLE:
            yield candidate, 0
        elif stripped == candidate.title.strip():
            yield candidate, 3
        elif read == as_read(candidate.title):
            yield candidate, 2
        else:
            yield candidate, int(text == candidate.text)


def _points(
    typed: Sequence[str], found: Sequence[Ranked], titles: Collection[str], nearest: float
) -> dict[UUID, float]:
    """Points by game, the lower the better: the cost, adjusted by what else speaks for or against a
    game among all these titles."""
    text, pieces = " ".join(typed), trigrams(typed)
    parents = _parents(titles)
    add_ons = Counter(parents.values())
    complete = any(f"{title} ".startswith(f"{text} ") for title in titles)

    def points(candidate: Candidate, cost: float) -> float:
        title = candidate.canonical
        if title == text:
            return -FAR
        lacking = 0 if candidate.strict else 1 - _shared(pieces, title) / len(pieces)
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


def _bought(
    typed: Sequence[str],
    found: Sequence[Ranked],
    sold: Mapping[UUID, int],
    *,
    finished: bool,
) -> Iterable[tuple[Ranked, int]]:
    """The games that were typed without a typo and were sold, and how often. After a blank the last
    word is `finished`: not of those with a longer one."""
    text = f" {' '.join(typed)} " if finished else ""
    for each in found:
        many = sold.get(each.candidate.game_id, 0)
        if many and each.cost < MISTYPED and text in f" {each.candidate.canonical} ":
            yield each, many


def _shared(pieces: Sequence[str], title: str) -> int:
    """How many of these trigrams a title has."""
    padded = f"_{title.replace(' ', '__')}_"
    return sum([piece in padded for piece in pieces])


def _parents(titles: Collection[str]) -> dict[str, str]:
    """For each title that continues another one, the longest such other. (A number makes a sequel,
    which does not count.)"""
    parents, shortest = {}, min(map(len, titles), default=0)
    for title in titles:
        end = title.rfind(" ")
        while end >= shortest:
            if title[:end] in titles:
                if not title[end + 1 :].partition(" ")[0].isdigit():
                    parents[title] = title[:end]
                break
            end = title.rfind(" ", 0, end)
    return parents
