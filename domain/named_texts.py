"""Texts with names, as events carry them: the details of an act, the labels of an alert."""

from collections.abc import Iterable, Mapping

import msgspec

MAX_TEXTS = 20
MAX_NAME = 100
MAX_TEXT = 1_000
"""The most texts of an event, and the most characters of a name and of a text."""


class NamedText(msgspec.Struct, frozen=True):
    """A text and its name."""

    name: str
    text: str


def named_texts(texts: Mapping[str, str]) -> tuple[NamedText, ...]:
    """These texts in the order of their names: the first MAX_TEXTS, each shortened if need be."""
    return tuple(
        NamedText(shortened(name, MAX_NAME), shortened(texts[name], MAX_TEXT))
        for name in sorted(texts)[:MAX_TEXTS]
    )


def by_name(texts: Iterable[NamedText]) -> dict[str, str]:
    """The texts by their names."""
    return {each.name: each.text for each in texts}


def shortened(text: str, most: int) -> str:
    """The text, or as much of it as `most` characters hold, with an ellipsis. The character that
    PostgreSQL's text cannot hold is replaced."""
    text = text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    return text if len(text) <= most else text[: most - 1] + "…"
