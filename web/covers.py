"""Covers of games that have no image: drawn from the title, and always the same."""

import hashlib
import unicodedata
from functools import lru_cache

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 300, 400

_PALETTES = (
    ("#1b3a4b", "#f2b134", "#ed553b"),
    ("#2d1e2f", "#f15946", "#f9c22e"),
    ("#0b3954", "#bfd7ea", "#ff6663"),
    ("#3d2645", "#f0eff4", "#da4167"),
    ("#14342b", "#60935d", "#bbdfc5"),
    ("#4a1942", "#ea526f", "#f7f4ea"),
    ("#22223b", "#9a8c98", "#f2e9e4"),
    ("#003049", "#d62828", "#fcbf49"),
)
"""Ground, shapes and letters; letters on their ground have a contrast of at least 4.5."""


@lru_cache(maxsize=4096)
def cover(title: str) -> Markup:
    """A cover as SVG. It repeats the title that stands beside it, and is hidden from readers of
    screens."""
    digest = hashlib.sha256(title.encode("utf-8", "replace")).digest()
    ground, shape, ink = _PALETTES[digest[0] % len(_PALETTES)]
    pattern = _PATTERNS[digest[1] % len(_PATTERNS)](digest[2:], shape)
    return Markup(
        '<svg class="cover" viewBox="0 0 {w} {h}" aria-hidden="true" focusable="false">'
        '<rect width="{w}" height="{h}" fill="{ground}"/>{pattern}'
        '<rect y="{band}" width="{w}" height="130" fill="{ground}"/>'
        '<text x="150" y="{line}" fill="{ink}" font-size="84" font-weight="700"'
        ' text-anchor="middle" font-family="system-ui, sans-serif">{letters}</text></svg>'
    ).format(
        w=_WIDTH,
        h=_HEIGHT,
        ground=ground,
        pattern=Markup(pattern),  # noqa: S704 - numbers and colours of this module
        band=_HEIGHT // 2 - 65,
        line=_HEIGHT // 2 + 30,
        ink=ink if _contrasts(ground, ink) else "#ffffff",
        letters=escape(initials(title)),
    )


def initials(title: str) -> str:
    """Up to two letters or digits that stand for a title; `?` if it has none."""
    words = [
        "".join(each for each in word if unicodedata.category(each)[0] in "LN")
        for word in title.split()
    ]
    firsts = [word[0] for word in words if word]
    return "".join(firsts[:2]).upper() or "?"


def _circles(digest: bytes, shape: str) -> str:
    return "".join(
        f'<circle cx="{digest[i] * _WIDTH // 255}" cy="{digest[i + 1] * _HEIGHT // 255}"'
        f' r="{20 + digest[i + 2] // 3}" fill="{shape}" opacity="0.{3 + i // 3}"/>'
        for i in range(0, 15, 3)
    )


def _stripes(digest: bytes, shape: str) -> str:
    width = 12 + digest[0] // 8
    return "".join(
        f'<rect x="{x}" width="{width}" height="{_HEIGHT}" fill="{shape}" opacity="0.5"/>'
        for x in range(digest[1] % 20, _WIDTH, 2 * width)
    )


def _rays(digest: bytes, shape: str) -> str:
    x, y = digest[0] * _WIDTH // 255, digest[1] * 90 // 255
    return "".join(
        f'<path d="M{x} {y}L{left} {_HEIGHT}h{15 + digest[2] // 8}z" fill="{shape}" opacity="0.5"/>'
        for left in range(-_WIDTH, 2 * _WIDTH, 70)
    )


def _blocks(digest: bytes, shape: str) -> str:
    return "".join(
        f'<rect x="{i % 6 * 50}" y="{i // 6 * 50}" width="50" height="50" fill="{shape}"'
        f' opacity="0.{1 + i % 5}"/>'
        for i in range(48)
        if digest[i % 28] >> (i % 8) & 1
    )


_PATTERNS = (_circles, _stripes, _rays, _blocks)


def _contrasts(one: str, other: str) -> bool:
    """Whether text in one colour on the other can be read (WCAG 2.2, 1.4.3)."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05) >= 4.5


def _luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
