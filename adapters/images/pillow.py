"""Images by Pillow: recognised by their content, whatever their name, and redrawn, so that only the
picture is stored: no EXIF (where it was taken), no second file hidden behind the first, no further
frames."""

import asyncio
import io
import struct
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from PIL import ExifTags, Image, ImageMath

from commands.ports.images import Picture
from domain.errors import Invalid

MAX_PIXELS = 25_000_000
"""The largest image that is drawn: a small file may claim to contain gigabytes."""

MAX_SIDE, THUMBNAIL_SIDE = 2048, 320
"""Pixels of the longer side."""

THREADS = 2
"""Images drawn concurrently; each may briefly take a few hundred megabytes."""

Format = Literal["PNG", "JPEG", "WEBP"]

_OPTIONS: Mapping[Format, Mapping[str, object]] = {
    "PNG": {"optimize": False},
    "JPEG": {"quality": 85, "progressive": True},
    "WEBP": {"quality": 85, "method": 4},
}

_BROKEN = (
    *(
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        MemoryError,
    ),
    *(struct.error, zlib.error),
)
"""What Pillow raises when the content does not match its header."""

_TO_UPRIGHT: Mapping[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation."""


class PillowImages:
    """Implements `ImageMaker`."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "images")

    def close(self) -> None:
        """Release the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def make(self, content: bytes) -> Picture:
        """See `ImageMaker`."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, picture_of, content)


def picture_of(content: bytes) -> Picture:
    """The image, redrawn. Raises Invalid: image_unsupported, image_broken, image_too_large."""
    format = format_of(content)
    if format is None:
        raise Invalid("image_unsupported", "an image is a PNG, a JPEG or a WebP")
    try:
        image = _drawn(content, format)
        return Picture(_encoded(image, MAX_SIDE, format), _encoded(image, THUMBNAIL_SIDE, format))
    except Image.DecompressionBombError as error:
        raise _too_large() from error
    except _BROKEN as error:
        raise Invalid("image_broken", f"this {format} cannot be read") from error


def format_of(content: bytes) -> Format | None:
    """The format by the first bytes."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    return None


def _drawn(content: bytes, format: Format) -> Image.Image:
    """The first frame, upright, in plain colours."""
    with Image.open(io.BytesIO(content), formats=[format]) as image:
        if image.width * image.height > MAX_PIXELS:
            raise _too_large()
        image.draft("RGB", (MAX_SIDE, MAX_SIDE))  # decode a JPEG no larger than needed
        image.load()
        upright = _upright(image)
        if format == "PNG":
            upright = _in_eight_bits(upright, depth=content[24])
        plain = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
        plain.info.clear()
        return plain


def _in_eight_bits(image: Image.Image, depth: int) -> Image.Image:
    """A PNG's picture with 8-bit samples, and its transparent colour on the same scale.

    Pillow scales the samples of most kinds (of 16-bit colours it keeps the upper byte), but clips
    16-bit grey at 255, and leaves the transparent colour as in the file.
    """
    colour = image.info.get("transparency")
    if image.mode.startswith("I"):
        grey = image.convert("I")
        eight = grey.point(lambda sample: sample * (1 / 257) + 0.5).convert("L")
        if colour is None:
            return eight
        opaque = ImageMath.lambda_eval(
            lambda args: args["convert"](255 * (args["grey"] != colour), "L"), grey=grey
        )
        return Image.merge("LA", (eight, opaque))
    if image.mode == "L" and isinstance(colour, int) and depth < 8:
        image.info["transparency"] = colour * 255 // (2**depth - 1)
    if image.mode == "RGB" and isinstance(colour, tuple) and depth == 16:
        image.info["transparency"] = tuple(sample >> 8 for sample in colour)
    return image


def _upright(image: Image.Image) -> Image.Image:
    """The image, rotated by its EXIF. `ImageOps.exif_transpose` would rewrite the EXIF, and fails
    when that is damaged."""
    turn = _TO_UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    return image if turn is None else image.transpose(turn)


def _encoded(image: Image.Image, side: int, format: Format) -> bytes:
    """The image as a file, with at most `side` pixels on the longer side."""
    small = image.copy()
    small.thumbnail((side, side))
    file = io.BytesIO()
    small.save(file, format, **_OPTIONS[format])
    return file.getvalue()


def _too_large() -> Invalid:
    return Invalid("image_too_large", f"an image has at most {MAX_PIXELS:,} pixels")
