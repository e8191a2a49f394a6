"""Finds the words of a title that match what was typed, for highlights and for suggestions."""

import html
from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import chain, pairwise

import msgspec
from rapidfuzz.distance import OSA

from projections.search.text import canonical, compounds, initials
from projections.search.words import Word, words_with_places
from queries.search.reading import may_abbreviate


class _Title(msgspec.Struct, frozen=True):
    """A title's words, their folded texts, and those with digits for Roman numerals."""

    words: list[Word]
    texts: list[str]
    numbered: list[str]

    def spellings(self) -> list[list[str]]:
        """Its texts, in different ways."""
        return [self.texts] if self.texts == self.numbered else [self.texts, self.numbered]


@lru_cache(maxsize=8192)
def _taken_apart(title: str) -> _Title:
    words = words_with_places(title)
    texts = [word.text for word in words]
    return _Title(words, texts, canonical(texts))


class Highlighter:
    """Marks in titles what was typed: some folded words."""

    def __init__(self, typed: Sequence[str]) -> None:
        self._wanted = {*typed, *canonical(typed), *map("".join, pairwise(typed))}
        self._begins = tuple(each for each in typed if len(each) > 2 or each is typed[-1])
        self._edits = [(each, 1 if len(each) < 8 else 2) for each in self._wanted if len(each) > 3]
        # of texts that may be meant
        self._lengths = {len(each) for each in self._wanted} | {
            len(each) + more for each, edits in self._edits for more in range(-edits, edits + 1)
        }
        self._mistyped: dict[str, bool] = {}

    def highlight(self, title: str) -> str:
        """The title as HTML, with matching words within `<em></em>`, otherwise unchanged."""
        parts = _taken_apart(title)
        shown, done = [], 0
        for place in sorted(self._matching(parts)):
            word = parts.words[place]
            if word.start >= done:
                shown += [
                    html.escape(title[done : word.start]),
                    f"<em>{html.escape(title[word.start : word.end])}</em>",
                ]
                done = word.end
        return "".join(shown) + html.escape(title[done:])

    def _matching(self, title: _Title) -> set[int]:
        """The places of the matching words of the title: matched whole, as a prefix, abbreviated or
        joined, and otherwise mistyped."""
        wanted, lengths, spellings = self._wanted, self._lengths, title.spellings()
        words = list(enumerate(title.texts))
        found = {place for place, word in words if word.startswith(self._begins)}
        for spelling in spellings:
            found.update(place for place, word in enumerate(spelling) if word in wanted)
            found |= self._abbreviated(spelling, wanted.difference(title.numbered))
        for length in (2, 3):
            for start in range(len(words) - length + 1):
                for spelling in spellings:
                    together = "".join(spelling[start : start + length])
                    if len(together) in lengths:
                        run = range(start, start + length)
                        if self._is_meant(together, mistyped=found.isdisjoint(run)):
                            found.update(run)
        for place, word in words:
            if place not in found and len(word) in lengths and self._is_meant(word, mistyped=True):
                found.add(place)
        return found

    def _abbreviated(self, words: Sequence[str], short: Collection[str]) -> set[int]:
        found: set[int] = set()
        title = " ".join(words)
        if any(may_abbreviate(each, title) for each in short):
            for run, start, end in chain(initials(words), compounds(words)):
                if run in short:
                    found.update(range(start, end))
        return found

    def _is_meant(self, text: str, *, mistyped: bool) -> bool:
        """Whether a text was typed, maybe `mistyped`."""
        if text in self._wanted or not mistyped:
            return text in self._wanted
        known = self._mistyped.get(text)
        if known is None:
            known = self._mistyped[text] = any(
                OSA.distance(each, text, score_cutoff=edits) <= edits for each, edits in self._edits
            )
        return known


def correction(title: str, typed: Sequence[str]) -> str | None:
    """What was typed, as the title spells it (`wicher 3` → `witcher 3`): the nearest run of the
    title's words. None when it is spelt so already, or too far from any run."""
    query = " ".join(typed)
    plain_words = [word.text for word in words_with_places(title)]
    runs = {
        " ".join(spelling[start:end])
        for spelling in (plain_words, canonical(plain_words))
        for start in range(len(spelling))
        for end in range(start + 1, min(len(spelling), start + len(typed) + 2) + 1)
    }
    nearest = min(runs, key=lambda run: (OSA.distance(query, run), run), default=query)
    near_enough = OSA.distance(query, nearest) <= max(1, len(query) // 4)
    return nearest if near_enough and nearest != query else None
