"""An image keeps its colours, whatever kind of file it comes from."""

import io
import random

import pytest
from PIL import Image

from adapters.images.pillow import picture_of
from tests.support.pngs import (
    CHANNELS,
    DEPTHS,
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB_ALPHA,
    RGBA,
    Pixel,
    png,
    shown,
)

ENTRIES = [(255, 0, 0), (0, 255, 0), (1, 2, 3), (9, 9, 9)]


def kept(content: bytes) -> list[RGBA]:
    """The pixels of the stored image, row by row."""
    image = Image.open(io.BytesIO(picture_of(content).full)).convert("RGBA")
    raw = image.tobytes()
    return [(raw[n], raw[n + 1], raw[n + 2], raw[n + 3]) for n in range(0, len(raw), 4)]


def pixels_of(colour_type: int, depth: int) -> list[Pixel]:
    """Black, white, and colours between."""
    rng = random.Random(depth)
    top = min(2**depth - 1, len(ENTRIES) - 1) if colour_type == PALETTE else 2**depth - 1
    channels = range(CHANNELS[colour_type])
    return [tuple(0 for _ in channels), tuple(top for _ in channels)] + [
        tuple(rng.randint(0, top) for _ in channels) for _ in range(30)
    ]


@pytest.mark.parametrize(
    ("colour_type", "depth", "with_transparent"),
    [
        (kind, depth, transparent)
        for kind, depths in DEPTHS.items()
        for depth in depths
        for transparent in (False, True)
        # these have an alpha for each pixel
        if not (transparent and kind in (GREY_ALPHA, RGB_ALPHA))
    ],
)
def test_every_kind_of_png_keeps_its_colours(
    colour_type: int, depth: int, with_transparent: bool
) -> None:
    pixels = pixels_of(colour_type, depth)
    palette = ENTRIES[: 2**depth] if colour_type == PALETTE else []
    transparent = None
    if with_transparent:
        transparent = [0, 128] if colour_type == PALETTE else list(pixels[2])
    content = png(colour_type, depth, pixels, transparent=transparent, palette=palette)

    wanted = [
        shown(colour_type, depth, pixel, transparent=transparent, palette=palette)
        for pixel in pixels
    ]
    # of 16-bit colours the upper byte is kept
    off_by = 1 if depth == 16 and colour_type != GREY else 0
    for found, meant in zip(kept(content), wanted, strict=True):
        assert all(abs(a - b) <= off_by for a, b in zip(found, meant, strict=True)), (found, meant)


def test_a_palette_may_be_larger_than_what_is_used_of_it() -> None:
    palette = [(number, 255 - number, 7) for number in range(256)]
    assert kept(png(PALETTE, 8, [(0,), (200,)], palette=palette)) == [
        (0, 255, 7, 255),
        (200, 55, 7, 255),
    ]


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("mode", "colour", "meant"),
    [
        ("L", 100, (100, 100, 100)),
        ("RGB", (200, 100, 50), (200, 100, 50)),
        ("CMYK", (0, 0, 0, 0), (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("CMYK", (0, 0, 0, 255), (0, 0, 0)),
    ],
)
def test_a_jpeg_for_the_screen_or_for_print_keeps_its_colours(
    mode: str, colour: int | tuple[int, ...], meant: tuple[int, ...]
) -> None:
    found = kept(saved(Image.new(mode, (16, 16), colour), "JPEG", quality=95))
    assert all(abs(a - b) <= 3 for a, b in zip(found[100], (*meant, 255), strict=True)), found[100]


def test_a_webp_keeps_what_can_be_seen_through_it() -> None:
    found = kept(saved(Image.new("RGBA", (16, 16), (200, 100, 50, 128)), "WEBP", lossless=True))
    assert all(abs(a - b) <= 4 for a, b in zip(found[100], (200, 100, 50, 128), strict=True)), (
        found[100]
    )


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_what_moves_is_shown_as_it_begins(format: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((250, 0, 0), (0, 0, 250))]
    content = saved(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
    assert Image.open(io.BytesIO(content)).n_frames == 2  # type: ignore[attr-defined]
    red, _, blue, _ = kept(content)[100]
    assert red > 240 > 10 > blue


@pytest.mark.parametrize(
    ("orientation", "meant"),
    [
        (1, "rgbw"),
        (2, "grwb"),
        (3, "wbgr"),
        (4, "bwrg"),
        (5, "rbgw"),
        (6, "brwg"),
        (7, "wgbr"),
        (8, "gwrb"),
    ],
)
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_a_photo_is_turned_upright(format: str, orientation: int, meant: str) -> None:
    """Four quarters of one colour each: as they are in the file, and as they must be shown, row by
    row."""
    colours = {"r": (255, 0, 0), "g": (0, 255, 0), "b": (0, 0, 255), "w": (255, 255, 255)}
    image = Image.new("RGB", (32, 32))
    for place, letter in enumerate("rgbw"):
        left, top = 16 * (place % 2), 16 * (place // 2)
        image.paste(colours[letter], (left, top, left + 16, top + 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = kept(saved(image, format, exif=exif.tobytes()))
    quarters = [found[32 * y + x] for y in (8, 24) for x in (8, 24)]
    for quarter, letter in zip(quarters, meant, strict=True):
        assert all(abs(a - b) <= 40 for a, b in zip(quarter[:3], colours[letter], strict=True)), (
            quarters,
            meant,
        )


def test_a_transparent_grey_of_16_bits_is_one_shade_and_no_other() -> None:
    assert [alpha for *_, alpha in kept(png(GREY, 16, [(300,), (301,)], transparent=[300]))] == [
        0,
        255,
    ]


def test_a_png_of_16_bit_grey_is_not_white() -> None:
    assert [
        grey for grey, *_ in kept(png(GREY, 16, [(0,), (0x4000,), (0x8080,), (0xC0C0,), (0xFFFF,)]))
    ] == [*(0, 64, 128, 192, 255)]
