"""Takes titles apart for search, in the same way at index time, at query time and for every engine.

The engines only look up what this module makes, so none of them needs an accent filter, n-grams or
a stemmer of its own. A change here needs a rebuild of the index: raise TEXT_VERSION.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain

import msgspec

from domain.text import comparison_key
from projections.search.words import symbols, words

TEXT_VERSION = 2
"""Part of the version of every search index."""

MAX_TITLE = 300
"""Characters of a title that are searchable."""

MAX_KEY_BYTES = 256
"""The longest lexeme or key. PostgreSQL accepts a lexeme of over 2,046 bytes silently, and then
cannot read it."""

_SURELY_FITS = MAX_KEY_BYTES // 4
"""Characters of a key that is not too long: one has at most four bytes in UTF-8."""

_ROMAN = re.compile(r"(?=[ivx])(x{0,3})(ix|iv|v?i{0,3})")
_ROMAN_DIGITS = {"i": 1, "v": 5, "x": 10}
_INNER_SYLLABLE = re.compile(r"(?<=.{3})[bcdfghjklmnpqrstvwxz](?=[aeiouyrl])")
_ADD_ON = re.compile(
    r"\b(dlc\d*|soundtrack|ost|season pass|battle"
    r" pass|(year|leader|premium|expansion|deluxe|cosmetic) (\d+ )?pass"
    r"|pack|bundle|skins?|expansion|add on|addon|upgrade|artbook|art"
    r" book|wallpapers?|costumes?|livery|demo"
    r"|content kit|collection kit|starter|cosmetic|voucher|season \d+|character)\b"
)


class SearchText(msgspec.Struct, frozen=True):
    """A title, taken apart.

    `text` and `canonical` are its folded words joined by spaces, the latter with Roman numerals as
    digits. `lexemes` are what a strict query matches, `keys` what a loose one counts; both mark
    what is not a plain word or trigram with a sign: `+joined`, `=initials`, `~one letter left out`,
    `!signs`. `trigrams` is how many of the keys are trigrams. `rank` is 1 for a game, less for an
    add-on.
    """

    text: str
    canonical: str
    lexemes: list[str]
    keys: list[str]
    trigrams: int
    rank: float


def folded(text: str) -> str:
    """The folded words joined by spaces, with the symbols beside them: equal for texts that people
    consider the same. `C++` is not `C`, but `RPG` is `rpg`."""
    return " ".join([*words(text), *symbols(text)])


def as_read(text: str) -> str:
    """A form that is equal for texts that differ only in case, width and blanks; accents and signs
    count."""
    return comparison_key(text)


def bounded(key: str) -> str:
    """A lexeme or key, cut to MAX_KEY_BYTES."""
    encoded = key.encode()
    return key if len(encoded) <= MAX_KEY_BYTES else encoded[:MAX_KEY_BYTES].decode(errors="ignore")


def lexeme(word: str) -> str:
    """A word as a lexeme. A word of signs is marked (`!♥`), so that it is no prefix of another."""
    return bounded(word if word[:1].isalnum() else "!" + word)


@lru_cache(maxsize=8192)
def _number(word: str) -> str | None:
    if not _ROMAN.fullmatch(word):
        return None
    values = [_ROMAN_DIGITS[letter] for letter in word]
    return str(sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0], strict=True)))


def canonical(folded_words: Sequence[str]) -> list[str]:
    """The words with Roman numerals up to 39 as digits."""
    return [_number(word) or word for word in folded_words]


def joins(folded_words: Sequence[str]) -> set[str]:
    """Neighbours written as one word (`half life` → `halflife`): pairs, triples and the whole."""
    found = {
        "".join(folded_words[i : i + n]) for n in (2, 3) for i in range(len(folded_words) - n + 1)
    }
    return found | {"".join(folded_words)} if len(folded_words) > 1 else found


def trigrams(folded_words: Sequence[str]) -> list[str]:
    """Three-letter pieces of each word, with `_` at its ends, each piece once."""
    padded = [f"_{word}_" for word in folded_words]
    return list(dict.fromkeys(word[i : i + 3] for word in padded for i in range(len(word) - 2)))


def initials(folded_words: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """The initials of runs of adjacent words, numbers kept whole, each with the run's bounds: `team
    fortress 2` → tf, tf2, f2."""
    short = [word if word.isdigit() or _number(word) else word[0] for word in folded_words]
    for start in range(len(short)):
        run = ""
        for end, initial in enumerate(short[start : start + 8], start + 1):
            run += initial
            if end > start + 1 and not run.isdigit():
                yield run, start, end


@lru_cache(maxsize=8192)
def _inner_syllables(word: str) -> list[str]:
    return sorted(set(_INNER_SYLLABLE.findall(word)))


def compounds(folded_words: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Long words abbreviated as if they were two, each with its bounds: `battlefield 1` → bf, bf1
    (and bl, bl1…)."""
    for start, word in enumerate(folded_words):
        if len(word) >= 8:
            number = "".join(word for word in folded_words[start + 1 : start + 2] if word.isdigit())
            for letter in _inner_syllables(word):
                yield word[0] + letter, start, start + 1
                if number:
                    yield word[0] + letter + number, start, start + 2


def abbreviations(folded_words: Sequence[str]) -> set[str]:
    """All abbreviations of a title."""
    return {short for way in (initials, compounds) for short, _, _ in way(folded_words)}


def deletions(folded_words: Sequence[str]) -> set[str]:
    """Short words as they are and with one letter left out; and the whole, if it is short, with up
    to two out.

    Two words a typo apart share one of these, even when they share hardly a trigram (`hades`,
    `hdaes`). The whole is marked `^`.
    """
    found = {
        shorter for word in folded_words if 3 <= len(word) <= 8 for shorter in _left_out(word, 1)
    }
    whole = "".join(folded_words)
    return found | {"^" + shorter for shorter in _left_out(whole, 2)} if len(whole) <= 11 else found


def _left_out(word: str, letters: int) -> set[str]:
    found = {word}
    for _ in range(letters):
        found |= {
            each[:place] + each[place + 1 :]
            for each in found
            for place in range(len(each))
            if len(each) > 2
        }
    return found


def _marked(sign: str, found: Iterable[str]) -> set[str]:
    return {sign + each if len(each) < _SURELY_FITS else bounded(sign + each) for each in found}


def is_add_on(text: str) -> bool:
    """Whether a folded title names an add-on (a pack, a soundtrack, a season pass) and not a
    game."""
    return _ADD_ON.search(text) is not None


def take_apart(title: str) -> SearchText:
    """All that the engines store of a title."""
    found = words(title[:MAX_TITLE], MAX_TITLE)
    numbered = canonical(found)
    spellings = [found] if found == numbered else [found, numbered]
    joined = _marked("+", chain(*map(joins, spellings)))
    abbreviated = _marked("=", chain(*map(abbreviations, spellings)))
    shortened = _marked("~", deletions(numbered))
    pieces = trigrams(numbered)
    text = " ".join(found)
    plain = map(lexeme, [*found, *numbered, *symbols(title[:MAX_TITLE])])
    return SearchText(
        text=text,
        canonical=" ".join(numbered),
        lexemes=sorted({*plain, *joined, *abbreviated}),
        keys=[*pieces, *sorted(joined | abbreviated | shortened)],
        trigrams=len(pieces),
        rank=0.7 if is_add_on(text) else 1.0,
    )
