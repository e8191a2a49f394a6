"""Covers of games that have no image: drawn from the title, and always the same."""

import hashlib
import math
import unicodedata
from functools import lru_cache

from markupsafe import Markup

_WIDTH, _HEIGHT = 300, 400
_MARGIN = 24

_PALETTES = (
    ("#16324a", "#f2b134", "#ffe9bd"),
    ("#2d1e2f", "#f15946", "#fbd9a0"),
    ("#0b3954", "#ff6663", "#d6e6f5"),
    ("#3d2645", "#da4167", "#f6e8ee"),
    ("#14342b", "#7fc08f", "#e3f3e6"),
    ("#4a1942", "#ea8c55", "#f9ebe0"),
    ("#22223b", "#a79bd8", "#f2e9e4"),
    ("#003049", "#ef6f3c", "#fdeacb"),
    ("#5c1a1b", "#e6a756", "#fbeedd"),
    ("#12355b", "#5fb3ce", "#e2f1f6"),
    ("#263326", "#d9b44a", "#f4efd9"),
    ("#402a68", "#e56399", "#f5e6f0"),
)
"""Ground, shapes and letters; letters on their ground have a contrast of at least 4.5."""

_SIZES = (46, 38, 32, 27, 23)
_MOST_LINES = 4


@lru_cache(maxsize=4096)
def cover(title: str) -> Markup:
    """A cover as SVG. It repeats the title that stands beside it, and is hidden from screen
    readers."""
    digest = hashlib.sha256(title.encode("utf-8", "replace")).digest()
    ground, shape, ink = _PALETTES[digest[0] % len(_PALETTES)]
    size, lines = set_in_lines(" ".join(title.split()) or "?")
    leading = round(size * 1.16)
    first = _HEIGHT - _MARGIN - leading * (len(lines) - 1) - 4
    band = first - size - 14
    drawing = _DRAWINGS[digest[1] % len(_DRAWINGS)](digest[2:], shape, band)
    texts = Markup("").join(
        Markup('<text x="{}" y="{}" font-size="{}">{}</text>').format(
            _WIDTH // 2, first + leading * number, size, line
        )
        for number, line in enumerate(lines)
    )
    return Markup(
        '<svg class="cover" viewBox="0 0 {w} {h}" aria-hidden="true" focusable="false">'
        '<rect width="{w}" height="{h}" fill="{ground}"/>{drawing}'
        '<rect y="{band}" width="{w}" height="{h}" fill="{ground}"/>'
        '<rect y="{band}" width="{w}" height="4" fill="{shape}"/>'
        '<g fill="{ink}" font-weight="800" text-anchor="middle" direction="{direction}">'
        "{texts}</g></svg>"
    ).format(
        w=_WIDTH,
        h=_HEIGHT,
        ground=ground,
        shape=shape,
        ink=ink,
        drawing=Markup(drawing),  # noqa: S704 - numbers and colours of this module
        band=band,
        direction=_direction(title),
        texts=texts,
    )


# -- the title -------------------------------------------------------------------------------------


def _direction(title: str) -> str:
    """Which way a title runs, as its first letter says: a colon at a line's end stands there."""
    directions = (unicodedata.bidirectional(letter) for letter in title)
    first = next((each for each in directions if each in {"L", "R", "AL"}), "L")
    return "ltr" if first == "L" else "rtl"


def set_in_lines(title: str) -> tuple[int, list[str]]:
    """The font size and the lines that make a title fill a cover's width. A title that is too long
    for the smallest size is cut off."""
    for size in _SIZES:
        lines = _wrapped(title.split(" "), (_WIDTH - 2 * _MARGIN) / size)
        if len(lines) <= _MOST_LINES and all(_width(each) * size <= _WIDTH - 16 for each in lines):
            return size, lines
    size, room = _SIZES[-1], (_WIDTH - 2 * _MARGIN) / _SIZES[-1]
    lines = _wrapped([part for word in title.split(" ") for part in _parts(word, room)], room)
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], lines[_MOST_LINES - 1][:-1] + "…"]
    return size, lines


def _wrapped(words: list[str], room: float) -> list[str]:
    """Words in lines, each as long as fits."""
    lines = [words[0]]
    for word in words[1:]:
        longer = f"{lines[-1]} {word}"
        if _width(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _parts(word: str, room: float) -> list[str]:
    """A word in parts that fit."""
    parts = [""]
    for letter in word:
        if _width(parts[-1] + letter) > room:
            parts.append("")
        parts[-1] += letter
    return parts


def _width(text: str) -> float:
    """The approximate width of bold text, in ems."""
    return sum(
        0.0
        if unicodedata.category(letter) in {"Mn", "Me", "Cf"}  # set on to the letter before
        else 1.0
        if unicodedata.east_asian_width(letter) in "WF"
        else 0.32
        if letter in "iljtfI.,:'!| -"
        else 0.95
        if letter in "mwMW"
        else 0.72
        if letter.isupper()
        else 0.6
        for letter in text
    )


# -- drawings: of a cover's upper part, that many pixels high --------------------------------------


def _planets(digest: bytes, shape: str, height: int) -> str:
    """A large circle with rings, and moons."""
    x, y = 60 + digest[0] * 180 // 255, height * (100 + digest[1] // 3) // 300
    radius = height * (90 + digest[2] // 3) // 500
    rings = "".join(
        f'<circle cx="{x}" cy="{y}" r="{radius + 22 * ring}" fill="none" stroke="{shape}"'
        f' opacity="0.{5 - ring}" stroke-width="3"/>'
        for ring in range(1, 5)
    )
    moons = "".join(
        f'<circle cx="{digest[i] * _WIDTH // 255}" cy="{digest[i + 1] * height // 255}"'
        f' r="{4 + digest[i + 2] // 24}" fill="{shape}" opacity="0.8"/>'
        for i in range(3, 15, 3)
    )
    return f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{shape}"/>{rings}{moons}'


def _hills(digest: bytes, shape: str, height: int) -> str:
    """A sun above hills, one behind the other."""
    sun = (
        f'<circle cx="{40 + digest[0] * 220 // 255}" cy="{height * (60 + digest[1] // 4) // 400}"'
        f' r="{28 + digest[2] // 8}" fill="{shape}"/>'
    )
    hills = []
    for number in range(4):
        base, swing = height * (40 + 16 * number) // 100, 12 + digest[3 + number] // 14
        phase, pace = digest[7 + number] / 40, 55 + digest[11 + number] // 5
        line = " ".join(
            f"{x} {base + round(swing * math.sin(x / pace + phase))}" for x in range(0, 301, 20)
        )
        hills.append(f'<path d="M{line}V400H0z" fill="{shape}" opacity="0.{2 + number}"/>')
    return sun + "".join(hills)


def _rays(digest: bytes, shape: str, height: int) -> str:
    """Rays from a point."""
    x, y = 60 + digest[0] * 180 // 255, height * (60 + digest[1]) // 400
    count = 10 + digest[2] % 10
    turn = 2 * math.pi / count
    rays = "".join(
        f"M{x} {y}L{x + 520 * math.cos(turn * ray):.0f} {y + 520 * math.sin(turn * ray):.0f}"
        f"L{x + 520 * math.cos(turn * (ray + 0.5)):.0f}"
        f" {y + 520 * math.sin(turn * (ray + 0.5)):.0f}z"
        for ray in range(count)
    )
    return (
        f'<path d="{rays}" fill="{shape}" opacity="0.35"/>'
        f'<circle cx="{x}" cy="{y}" r="{26 + digest[3] // 8}" fill="{shape}"/>'
    )


def _sprite(digest: bytes, shape: str, height: int) -> str:
    """A figure of squares, the same left and right."""
    rows, columns = 8, 7
    size = (height - 2 * _MARGIN) // rows
    left, top = (_WIDTH - columns * size) // 2, (height - rows * size) // 2
    squares = "".join(
        f"M{left + column * size} {top + row * size}h{size}v{size}h-{size}z"
        for row in range(rows)
        for column in range(columns)
        if digest[row * 3 % 28] >> (min(column, columns - 1 - column) + row % 3) & 1
        or (column == columns // 2 and row in {2, 3, 4})
    )
    return f'<path d="{squares}" fill="{shape}"/>'


def _skyline(digest: bytes, shape: str, height: int) -> str:
    """Towers, one behind the other."""
    towers = []
    for depth in range(3):
        x, number = -(digest[depth] % 20), 0
        while x < _WIDTH:
            width = 22 + digest[(3 + number + 9 * depth) % 28] % 34
            top = height * (10 + 20 * depth) // 100
            top += height * digest[(5 + number + 7 * depth) % 28] // 800
            towers.append(f'<path d="M{x} {top}h{width}V400h-{width}z" fill="{shape}"')
            towers.append(f' opacity="0.{2 + 2 * depth}"/>')
            x, number = x + width + 3, number + 1
    return "".join(towers)


def _tiles(digest: bytes, shape: str, height: int) -> str:
    """Quarter circles in a grid."""
    size = 60
    paths = []
    for tile in range(5 * math.ceil(height / size)):
        x, y = tile % 5 * size, tile // 5 * size
        turned = digest[tile % 29] >> (tile % 5) & 3
        arc = (
            f"M{x} {y}h{size}a{size} {size} 0 0 1 -{size} {size}z",
            f"M{x + size} {y}v{size}a{size} {size} 0 0 1 -{size} -{size}z",
            f"M{x + size} {y + size}h-{size}a{size} {size} 0 0 1 {size} -{size}z",
            f"M{x} {y + size}v-{size}a{size} {size} 0 0 1 {size} {size}z",
        )[turned]
        paths.append(f'<path d="{arc}" fill="{shape}" opacity="0.{3 + (tile + turned) % 5}"/>')
    return "".join(paths)


_DRAWINGS = (_planets, _hills, _rays, _sprite, _skyline, _tiles)


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
