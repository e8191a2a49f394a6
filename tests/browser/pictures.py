"""A picture such as a seller sends of a game, drawn."""

import io
import math
import random

from PIL import Image, ImageDraw, ImageFilter, ImageFont

_SIZE = (600, 800)
_OVER = 2
"""It is drawn this many times as large, and made smaller: that smooths its edges."""


def a_cover(title: str = "Wingspan") -> bytes:
    """The cover of a game of birds, as PNG: dawn over hills, a flock, and the title."""
    width, height = (side * _OVER for side in _SIZE)
    image = _sky(width, height)
    _sun(image, width, height)
    draw, chance = ImageDraw.Draw(image), random.Random(7)
    for depth in range(5):
        _hills(draw, depth, width, height)
    for number in range(13):
        size = width * (0.035 + 0.012 * (number % 4))
        x, y = chance.uniform(0.12, 0.88) * width, chance.uniform(0.2, 0.5) * height
        _bird(draw, x, y, size, "#233046")
    _bird(draw, width * 0.5, height * 0.36, width * 0.2, "#1a2233")
    _title(draw, title, width, height)
    file = io.BytesIO()
    image.resize(_SIZE, Image.Resampling.LANCZOS).save(file, "PNG", optimize=True)
    return file.getvalue()


def _sky(width: int, height: int) -> Image.Image:
    """From dusk at the top to dawn above the hills."""
    colours = Image.new("RGB", (1, 4))
    for y, colour in enumerate(((38, 52, 92), (150, 98, 132), (244, 168, 126), (255, 222, 170))):
        colours.putpixel((0, y), colour)
    return colours.resize((width, height), Image.Resampling.BICUBIC)


def _sun(image: Image.Image, width: int, height: int) -> None:
    x, y, radius = width * 0.62, height * 0.5, width * 0.15
    glow = Image.new("L", image.size)
    ImageDraw.Draw(glow).ellipse(
        (x - 2 * radius, y - 2 * radius, x + 2 * radius, y + 2 * radius), fill=120
    )
    image.paste((255, 226, 170), mask=glow.filter(ImageFilter.GaussianBlur(radius * 0.7)))
    ImageDraw.Draw(image).ellipse(
        (x - radius, y - radius, x + radius, y + radius), fill=(255, 240, 208)
    )


def _hills(draw: ImageDraw.ImageDraw, depth: int, width: int, height: int) -> None:
    """A row of hills; the nearer, the darker."""
    shade = ("#c98a80", "#9c6a78", "#6b4f6c", "#41395a", "#232a44")[depth]
    base, swing = height * (0.56 + 0.075 * depth), height * (0.03 + 0.006 * depth)
    line = [
        (
            x,
            base
            + swing * math.sin(x / width * (4 + depth) + depth * 1.9)
            + swing * 0.4 * math.sin(x / width * (11 + 3 * depth) + depth),
        )
        for x in range(0, width + 8, 8)
    ]
    draw.polygon([*line, (width, height), (0, height)], fill=shade)


def _bird(draw: ImageDraw.ImageDraw, x: float, y: float, span: float, shade: str) -> None:
    """A bird that glides: two bent wings and a body."""
    for side in (-1, 1):
        upper = [(x + side * span / 2 * t, y - span * _lift(t)) for t in _STEPS]
        lower = [
            (x + side * span / 2 * t, y - span * (_lift(t) - 0.09 * (1 - t) ** 0.7)) for t in _STEPS
        ]
        draw.polygon([*upper, *reversed(lower)], fill=shade)
    body = (x - span * 0.045, y - span * 0.05, x + span * 0.045, y + span * 0.17)
    draw.ellipse(body, fill=shade)


_STEPS = [step / 24 for step in range(25)]


def _lift(t: float) -> float:
    """How high a wing is, from the body (0) to its tip (1)."""
    return 0.2 * math.sin(t * math.pi * 0.62) - 0.02 * t


def _title(draw: ImageDraw.ImageDraw, title: str, width: int, height: int) -> None:
    font = ImageFont.load_default(width * 0.15)
    draw.text((width / 2, height * 0.885), title, "#fff3dc", font, anchor="ms")
    small = ImageFont.load_default(width * 0.038)
    words = "A GAME FOR ONE TO FIVE PLAYERS"
    draw.text((width / 2, height * 0.955), words, "#f0c9a4", small, anchor="ms")
