"""Finds the words of a title that match what was typed, for highlights and for suggestions."""

import html
from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import chain, pairwise

import msgspec
from rapidfuzz.distance import OSA

from projections.search.text import canonical, compounds, initials
from projections.search.words import Word, words_with_places


class _Title(msgspec.Struct, frozen=True):
    """A title's words, their folded texts, those with digits for Roman numerals, and how runs of
    them are abbreviated, each with its bounds."""

    words: list[Word]
    texts: list[str]
    numbered: list[str]
    abbreviated: list[tuple[str, int, int]]


@lru_cache(maxsize=2048)
def _taken_apart(title: str) -> _Title:
    words = words_with_places(title)
    texts = [word.text for word in words]
    numbered = canonical(texts)
    ways = [way(each) for way in (initials, compounds) for each in (texts, numbered)]
    return _Title(words, texts, numbered, list(dict.fromkeys(chain.from_iterable(ways))))


def highlight(title: str, typed: Sequence[str]) -> str:
    """The title as HTML, with matching words within `<em></em>`, otherwise unchanged."""
    parts = _taken_apart(title)
    shown, done = [], 0
    for place in sorted(_matching(parts, typed)):
        word = parts.words[place]
        if word.start >= done:
            shown += [
                html.escape(title[done : word.start]),
                f"<em>{html.escape(title[word.start : word.end])}</em>",
            ]
            done = word.end
    return "".join(shown) + html.escape(title[done:])


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


def _matching(title: _Title, typed: Sequence[str]) -> set[int]:
    """The places of the matching words of the title: matched whole, as a prefix, abbreviated or
    joined, and otherwise mistyped."""
    texts, numbered = title.texts, title.numbered
    wanted = {*typed, *canonical(typed), *map("".join, pairwise(typed))}
    found = {
        place
        for place, word in enumerate(texts)
        if wanted & {word, numbered[place]} or _begun(word, typed)
    }
    abbreviated = wanted - set(numbered)
    for short, start, end in title.abbreviated:
        if short in abbreviated:
            found.update(range(start, end))
    for length in (2, 3):
        for start in range(len(texts) - length + 1):
            run = range(start, start + length)
            together = {
                "".join(texts[start : start + length]),
                "".join(numbered[start : start + length]),
            }
            if wanted & together or (
                found.isdisjoint(run) and any(_mistyped(each, wanted) for each in together)
            ):
                found.update(run)
    return found | {place for place, word in enumerate(texts) if _mistyped(word, wanted)}


def _begun(word: str, typed: Sequence[str]) -> bool:
    return any(word.startswith(each) and (len(each) > 2 or each is typed[-1]) for each in typed)


def _mistyped(word: str, wanted: Collection[str]) -> bool:
    edits = ((each, 0 if len(each) < 4 else 1 if len(each) < 8 else 2) for each in wanted)
    return any(OSA.distance(each, word, score_cutoff=allowed) <= allowed for each, allowed in edits)
