"""The cost of reading what was typed as (a part of) a title: roughly the number of edits between
them.

What was typed may be the title from its start, or from a later word, may lack blanks, or may be
some of the title's words, each shortened or mistyped; the cheapest reading counts.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

from rapidfuzz import process
from rapidfuzz.distance import OSA

from projections.search.text import compounds, initials

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

EDITS_CONSIDERED = 4
"""The most edits in one reading; with more, the title does not match."""

STRETCH = 3
"""By how many letters a mistyped prefix may be longer or shorter."""


class Reading:
    """The ways to read some typed words."""

    def __init__(self, typed: Sequence[str], vocabulary: Collection[str]) -> None:
        """`vocabulary` contains all words of the titles that will be compared."""
        self._typed = [(word, _near(word, vocabulary)) for word in typed]
        self._text = _Start(" ".join(typed))
        self._squashed = _Start("".join(typed))

    def cost(self, title: str, limit: float) -> float:
        """The cost of a title (folded words, joined by blanks) if it is below the limit, else
        FAR."""
        cost = min(limit, self._text.distance(title, limit))
        extra = AFTER_THE if title.startswith("the ") else LATER_WORD
        start = title.find(" ") + 1 if self._text.may_begin_a_word(title, cost - extra) else 0
        while start and cost > extra:
            cost = min(cost, extra + self._text.distance(title, cost - extra, start))
            start, extra = title.find(" ", start) + 1, LATER_WORD
        if cost > SQUASHED:
            together = title.replace(" ", "")
            cost = min(cost, SQUASHED + self._squashed.distance(together, cost - SQUASHED))
        if cost > WORD_BY_WORD:
            cost = min(cost, WORD_BY_WORD + self._word_by_word(title, cost - WORD_BY_WORD))
        return cost if cost < limit else FAR

    def _word_by_word(self, title: str, limit: float) -> float:
        """The cost, if below the limit, of matching the typed words, in order, to words of the
        title, some of which may be skipped. A typed word may be a prefix of one, an abbreviation of
        several, or mistyped."""
        words = tuple(title.split())
        for word, near in self._typed:
            if near.keys().isdisjoint(words) and not may_abbreviate(word, title):
                return FAR
        is_short = any(may_abbreviate(word, title) for word, _ in self._typed)
        short = _abbreviations(words) if is_short else {}
        # the cheapest cost, by number of the title's words used
        behind = {0: 0.0} | dict.fromkeys(range(1, len(words)), LATER_WORD)
        for word, near in self._typed:
            ahead: dict[int, float] = {}
            reach = FAR
            for place, other in enumerate(words):
                reach = min(reach + SKIPPED_WORD, behind.get(place, FAR))
                if reach >= limit:
                    continue
                cost = reach + near.get(other, FAR)
                if cost < ahead.get(place + 1, limit):
                    ahead[place + 1] = cost
                for end, extra in short.get((word, place), ()):
                    ahead[end] = min(ahead.get(end, FAR), reach + extra)
            if not ahead:
                return FAR
            behind = ahead
        return min(behind.values())


class _Start:
    """A text that may be typed for the start of another one."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._first = text[:1]
        self._first_of_word = " " + text[:1]
        self._rest = text[2:]

    def may_begin_a_word(self, title: str, limit: float) -> bool:
        """Whether the distance from the start of any later word can be below the limit."""
        return limit > 2 or self._first_of_word in title or self._rest in title

    def distance(self, title: str, limit: float, start: int = 0) -> float:
        """The edits from this text to the nearest prefix of `title[start:]`, if fewer than the
        limit, else FAR."""
        text, size = self._text, len(self._text)
        if title.startswith(text, start):
            return 0
        most = EDITS_CONSIDERED if limit > EDITS_CONSIDERED else math.ceil(limit) - 1
        if most < 1 or (
            # a single edit leaves the first letter as it is, or else all after the second one
            most == 1 and not title.startswith(self._first, start) and self._rest not in title
        ):
            return FAR
        best = OSA.distance(text, title[start : start + size], score_cutoff=most + STRETCH)
        # one letter more or less changes the distance by one edit at most
        if best > most + STRETCH:
            return FAR
        longest = min(len(title) - start, size + STRETCH)
        for length in range(max(1, size - STRETCH), longest + 1):
            prefix = title[start : start + length]
            best = min(best, OSA.distance(text, prefix, score_cutoff=min(best, most)))
        return best if best <= most else FAR


def _near(word: str, vocabulary: Collection[str]) -> Mapping[str, float]:
    """The words that may be meant by a typed one, with the cost of each."""
    allowed = 0 if len(word) < 3 else 1 if len(word) < 6 else 2
    found: dict[str, float] = {}
    if allowed:
        mistyped = process.extract(
            word, vocabulary, scorer=OSA.distance, score_cutoff=allowed, limit=None
        )
        found = {other: distance for other, distance, _ in mistyped}
    found |= {other: UNFINISHED_WORD for other in vocabulary if other.startswith(word)}
    return found | {word: 0}


def may_abbreviate(word: str, title: str) -> bool:
    """Whether a word can be among the `initials` or `compounds` of a title: whether its first two
    letters can."""
    if len(word) < 2 or not (title.startswith(word[0]) or f" {word[0]}" in title):
        return False
    is_compound = len(word) == 2 or word[2:].isdigit()
    is_numbered = any(each.isdigit() or each in "ivx" for each in word[:2])
    return is_compound or is_numbered or word[:2] in "".join([each[0] for each in title.split()])


@lru_cache(maxsize=2048)
def _abbreviations(title: tuple[str, ...]) -> dict[tuple[str, int], list[tuple[int, float]]]:
    """By abbreviation and its start: its ends, each with the cost."""
    found: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for way, cost in ((initials, ABBREVIATED), (compounds, COMPOUND)):
        for short, start, end in way(title):
            found.setdefault((short, start), []).append((end, cost))
    return found
