"""What people read of a text: whether there is anything to be seen at all."""

import unicodedata

_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Fillers of Hangul and the empty Braille pattern: letters and signs by category, and nothing on the screen."""


def is_visible(text: str) -> bool:
    """Whether somebody sees something of it: a letter, digit, mark of punctuation or sign.

    Blanks, controls, zero-width characters, fillers, and accents without a letter are nothing by themselves.
    """
    return any(unicodedata.category(char)[0] in "LNPS" and char not in _BLANK_LETTERS for char in text)
