"""PNG files of any colour type and depth, written by hand, with the colours that the PNG
specification defines for them."""

import struct
import zlib
from collections.abc import Sequence

Sample = int
Pixel = tuple[Sample, ...]
RGBA = tuple[int, int, int, int]

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
DEPTHS = {
    GREY: (1, 2, 4, 8, 16),
    RGB: (8, 16),
    PALETTE: (1, 2, 4, 8),
    GREY_ALPHA: (8, 16),
    RGB_ALPHA: (8, 16),
}


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    colour_type: int,
    depth: int,
    pixels: Sequence[Pixel],
    *,
    transparent: Sequence[int] | None = None,
    palette: Sequence[tuple[int, int, int]] = (),
) -> bytes:
    """A PNG with one row of pixels. `transparent`: the one transparent colour, or the alpha of each
    entry of the palette."""
    bits = "".join(f"{sample:0{depth}b}" for pixel in pixels for sample in pixel)
    row = int(bits.ljust(-len(bits) % 8 + len(bits), "0"), 2).to_bytes((len(bits) + 7) // 8, "big")
    head = struct.pack(">IIBBBBB", len(pixels), 1, depth, colour_type, 0, 0, 0)
    chunks = [chunk(b"IHDR", head)]
    if palette:
        chunks.append(chunk(b"PLTE", bytes(sample for entry in palette for sample in entry)))
    if transparent is not None:
        size = "B" if colour_type == PALETTE else "H"
        chunks.append(chunk(b"tRNS", struct.pack(f">{len(transparent)}{size}", *transparent)))
    chunks += [chunk(b"IDAT", zlib.compress(b"\0" + row)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def shown(
    colour_type: int,
    depth: int,
    pixel: Pixel,
    *,
    transparent: Sequence[int] | None = None,
    palette: Sequence[tuple[int, int, int]] = (),
) -> RGBA:
    """The colour of a pixel in 8 bits, scaled linearly as §13.12 of the specification requires."""
    if colour_type == PALETTE:
        red, green, blue = palette[pixel[0]]
        alphas = list(transparent or ())
        return red, green, blue, alphas[pixel[0]] if pixel[0] < len(alphas) else 255
    largest = 2**depth - 1
    scaled = [(sample * 255 * 2 + largest) // (2 * largest) for sample in pixel]
    alpha = scaled.pop() if colour_type in (GREY_ALPHA, RGB_ALPHA) else 255
    if transparent is not None and tuple(transparent) == tuple(pixel):
        alpha = 0
    red, green, blue = scaled if len(scaled) == 3 else scaled * 3
    return red, green, blue, alpha
