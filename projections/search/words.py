"""The words of a text as readers compare them, without case, accents and width, and their places.

A text is folded by clusters: a character with the marks that belong to it. So a half-width ﾎﾟ is
the ポ that it shows, the vowel signs of रानी stay with their consonants, and each folded word still
has its place in the text as typed. An HTML entity, which older imports left in titles, counts as
its character.
"""

import re
import sys
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

import msgspec

from domain.text import ENTITY, is_visible, unescaped, without_ignorable

MAX_WORD = 64
"""Characters of a word that are searchable."""

MAX_CLUSTER = 32
"""Characters of a cluster that count. Sorting the marks of one takes the square of their number:
UAX #15 bounds them (stream-safe text), and so do we."""


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"


def _ranges(codes: Iterator[int]) -> str:
    """Character ranges for the inside of a regular expression's class."""
    found: list[list[int]] = []
    for code in codes:
        if found and code == found[-1][1] + 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in found)


# There are none elsewhere; looking through all of Unicode takes a third of a second at each start.
_MARK = _ranges(code for code in (*range(0x1F000), *range(0xE0100, 0xE01F0)) if _is_mark(chr(code)))
_JOINING_LETTERS = (
    "\u1160-\u11ff\ud7b0-\ud7c6\ud7cb-\ud7fb"  # vowels and final consonants of Hangul
    # half-width: voiced sounds, vowels of Hangul
    "\uff9e\uff9f\uffc2-\uffc7\uffca-\uffcf\uffd2-\uffd7\uffda-\uffdc"
)
_INVISIBLE = "\0\u00ad\u200b-\u200f\u2060-\u2064\ufeff\U000e0020-\U000e007f"
_ADDED = f"[{_MARK}{_JOINING_LETTERS}{_INVISIBLE}]"
_PLAIN = rf"[ -%(-_a-~]+(?!{_ADDED})"
"""ASCII that only folds to lower case: a run of clusters of one character each."""

_PIECE = re.compile(rf"(?P<plain>{_PLAIN})|{ENTITY}|(?s:.){_ADDED}*")
"""A cluster, or a run of plain ones."""

# PostgreSQL keeps titles without NUL: both must be taken apart alike
_DROPPED = frozenset("™®©℠℗’‘ʼ`´'＇\0")
_SPELLED_OUT = str.maketrans(
    {
        "ø": "o",
        "đ": "d",
        "ł": "l",
        "ı": "i",
        "æ": "ae",
        "œ": "oe",
        "þ": "th",
        "ð": "d",
        "&": " and ",
        "×": "x",
    }
)
_LEFT_OUT_BY_WRITERS = re.compile(
    "[\u0300-\u036f"  # accents of Latin, Greek and Cyrillic letters
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"  # points of Hebrew
    # of Arabic
    "\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed"
    "\u0640]"  # the tatweel, which makes a word of Arabic longer
)
_SINGLE = (  # scripts without blanks between words: each character is one
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\U00020000-\U0003ffff"
)
_WORD = re.compile(
    # an abbreviation with dots is one word: S.T.A.L.K.E.R.
    r"(?<![^\W_])(?:[^\W\d_]\.){2,}(?:[^\W\d_](?![^\W_]))?"
    rf"|[{_SINGLE}][{_MARK}]*"
    rf"|[^\W_{_SINGLE}](?:[^\W_{_SINGLE}]|[{_MARK}])*"
)

_MAYBE_SYMBOL = re.compile(r"[$+<=>^`|~]|[^\0-\x7f]")
"""Any symbol of ASCII, and all beyond it."""


class Word(msgspec.Struct, frozen=True):
    """A folded word, and where it stands in the text that it was read from (`text[start:end]`)."""

    text: str
    start: int
    end: int


class _Folded(msgspec.Struct, frozen=True):
    """A folded text, and for each of its characters the bounds of its cluster in the original."""

    text: str
    starts: list[int]
    ends: list[int]

    def word(self, match: re.Match[str], text: str) -> Word:
        return Word(text, self.starts[match.start()], self.ends[match.end() - 1])


def words_with_places(text: str) -> list[Word]:
    """The folded words of a text, each with its place in that text. If it has none, its signs are
    the words."""
    found = _fold(text)
    return [found.word(match, word) for word, match in _words(found.text)]


def words(text: str, max_chars: int = sys.maxsize) -> list[str]:
    """The first folded words of a text, up to `max_chars` characters in all: without case, accents,
    apostrophes and trademark signs, and with `&` as `and`."""
    kept = []
    for word, _ in _words(_folded(text)):
        max_chars -= len(word)
        if max_chars < 0:
            break
        kept.append(word)
    return kept


def symbols(text: str) -> list[str]:
    """The runs of symbols (♥, ++; no punctuation) beside the words of a text; none in a text of
    signs only."""
    found = _folded(text)
    if not _MAYBE_SYMBOL.search(found) or not _WORD.search(found):
        return []
    runs = "".join(each if unicodedata.category(each)[0] == "S" else " " for each in found)
    return [run[:MAX_WORD] for run in runs.split()]


def _words(folded: str) -> Iterator[tuple[str, re.Match[str]]]:
    """The words of a folded text, each with the match of its place there; without words, its
    signs."""
    match = None
    for match in _WORD.finditer(folded):
        yield match.group().replace(".", "")[:MAX_WORD], match
    if match is not None:
        return
    for match in re.finditer(r"\S+", folded):
        seen = "".join(each for each in match.group() if is_visible(each))
        if seen:
            yield seen[:MAX_WORD], match


def _fold(text: str) -> _Folded:
    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for match in _PIECE.finditer(text):
        start, end = match.span()
        piece = _fold_piece(match)
        pieces.append(piece)
        if match["plain"]:
            starts += range(start, end)
            ends += range(start + 1, end + 1)
        else:
            starts += [start] * len(piece)
            ends += [end] * len(piece)
    return _Folded("".join(pieces), starts, ends)


@lru_cache(maxsize=16)
def _folded(text: str) -> str:
    """A folded text without places. The words and the symbols of a text are asked for one after the
    other."""
    return _PIECE.sub(_fold_piece, text)


def _fold_piece(match: re.Match[str]) -> str:
    return match[0].lower() if match["plain"] else _fold_cluster(match[0][:MAX_CLUSTER])


@lru_cache(maxsize=8192)
def _fold_cluster(cluster: str) -> str:
    shown = without_ignorable("".join(each for each in unescaped(cluster) if each not in _DROPPED))
    plain = unicodedata.normalize("NFKC", shown).casefold().translate(_SPELLED_OUT)
    decomposed = _LEFT_OUT_BY_WRITERS.sub("", unicodedata.normalize("NFKD", plain))
    return unicodedata.normalize("NFC", decomposed)
