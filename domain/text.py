"""Text as readers see it: whether it is visible, what may stand in a line, and what reads the same.

Every text is stored as typed. Texts are told apart or recognised by their `comparison_key`, which
is never shown, mailed or sold in their place. Sources: UAX #9 (bidirectional controls), UAX #15
(normalization, stream-safe text), UAX #44 (Default_Ignorable_Code_Point).
"""

import html
import html.entities
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from domain.errors import Invalid

MAX_MARKS = 30
"""The most non-starters in a row (UAX #15, D3); real orthographies need a handful."""

# DerivedCoreProperties.txt of Unicode 16, Default_Ignorable_Code_Point: invisible.
_IGNORABLE_RANGES = (
    *(
        (0x00AD, 0x00AD),
        (0x034F, 0x034F),
        (0x061C, 0x061C),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
    ),
    *(
        (0x200B, 0x200F),
        (0x202A, 0x202E),
        (0x2060, 0x206F),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFEFF, 0xFEFF),
    ),
    *(
        (0xFFA0, 0xFFA0),
        (0xFFF0, 0xFFF8),
        (0x1BCA0, 0x1BCA3),
        (0x1D173, 0x1D17A),
        (0xE0000, 0xE0FFF),
    ),
)
IGNORABLE = frozenset(
    chr(code) for first, last in _IGNORABLE_RANGES for code in range(first, last + 1)
)
_DROP_IGNORABLE = dict.fromkeys(map(ord, IGNORABLE))

_BLANK_SIGNS = frozenset("\u2800\U0001d159")
"""Symbols with an empty glyph: the braille pattern without dots, the null note."""

_REORDERING = frozenset(
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u206a\u206b\u206c\u206d\u206e\u206f"
)
"""Explicit bidirectional controls: left open, they reorder the text that follows on a page or in a
mail. The implicit marks (U+200E, U+200F, U+061C) do not, and are allowed."""

ENTITY = r"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});"
_ENTITY = re.compile(ENTITY)


def is_visible(text: str) -> bool:
    """Whether a reader sees anything: a letter, digit or sign. Blanks, controls, zero-width
    characters, fillers and marks without a base letter do not count."""
    return any(map(_is_seen, text))


def without_ignorable(text: str) -> str:
    """The text without invisible characters (zero-width ones, variation selectors, fillers)."""
    return text if text.isascii() else text.translate(_DROP_IGNORABLE)


def trimmed(text: str) -> str:
    """The text without surrounding blanks and zero-width characters. Keeps what changes how the
    last sign looks."""
    start, end = 0, len(text)
    while start < end and _is_edge(text[start]):
        start += 1
    while end > start and _is_edge(text[end - 1]):
        end -= 1
    return text[start:end]


def with_few_marks(text: str) -> str:
    """The text with at most MAX_MARKS non-starters in a row; further ones are dropped. The result
    normalizes in linear time, while sorting a long run of marks takes quadratic time."""
    if text.isascii():
        return text
    kept, run = [], 0
    for character in text:
        for part in _decomposed(character):
            run = run + 1 if unicodedata.combining(part) else 0
        if run <= MAX_MARKS:
            kept.append(character)
    return "".join(kept)


@lru_cache(maxsize=4096)
def comparison_key(text: str) -> str:
    """A key that is equal for texts that read the same: it ignores case (by Unicode's folding),
    width and ligatures (NFKC), blanks and invisible characters, but not accents."""
    bounded = with_few_marks(without_ignorable(text))
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", bounded).casefold())
    return " ".join(folded.split())


def unescaped(text: str) -> str:
    """The text with HTML entities resolved once: `&amp;amp;` becomes `&amp;`. Only entities with a
    semicolon count; a browser would also read `Rock &parade` as `Rock ¶de`."""
    return _ENTITY.sub(
        lambda entity: html.unescape(entity[0]) if _is_entity(entity[1]) else entity[0], text
    )


def check_text(field: str, text: str, longest: int, *, optional: bool = False) -> None:
    """Raises Invalid(f"invalid_{field}") unless the text has 1 to `longest` characters, some of
    them visible, and none that reorders other text. An optional text may be empty."""
    if len(text) > longest:
        raise Invalid(f"invalid_{field}", f"{field}: at most {longest} characters")
    if not is_visible(text) and not (optional and not text):
        raise Invalid(f"invalid_{field}", f"{field}: it has no visible characters")
    if reorders(text):
        raise Invalid(f"invalid_{field}", f"{field}: {REORDERS}")


def check_texts(field: str, texts: Sequence[str], longest: int, max_count: int) -> None:
    """Check each as `check_text`. Raises Invalid, too, when there are more than `max_count`."""
    if len(texts) > max_count:
        raise Invalid(f"invalid_{field}", f"{field}: at most {max_count}")
    for text in texts:
        check_text(field, text, longest)


REORDERS = "bidirectional controls (U+202A to U+202E, U+2066 to U+206F) are not allowed"


def reorders(text: str) -> bool:
    """Whether the text holds a control that may reorder adjacent text."""
    return not text.isascii() and not _REORDERING.isdisjoint(text)


def breaks_line(text: str) -> bool:
    """Whether the text holds a control character or a line separator."""
    return any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in text)


def _is_entity(name: str) -> bool:
    return name[0] == "#" or name + ";" in html.entities.html5


def _is_seen(character: str) -> bool:
    category = unicodedata.category(character)
    if character in IGNORABLE or character in _BLANK_SIGNS:
        return False
    return category[0] in "LNPS" or (category == "Cn" and not _is_noncharacter(ord(character)))


def _is_noncharacter(code: int) -> bool:
    """Whether the code point can never become a character. Any other unassigned one may, in a newer
    Unicode."""
    return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


def _is_edge(character: str) -> bool:
    if character.isspace():
        return True
    return (
        character in IGNORABLE
        and unicodedata.category(character) != "Mn"
        and character < "\U000e0000"
    )


@lru_cache(maxsize=4096)
def _decomposed(character: str) -> str:
    return unicodedata.normalize("NFKD", character)
