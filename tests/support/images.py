"""Generates images."""

import io
from typing import Any

from PIL import Image


def an_image(
    format: str = "PNG",
    size: tuple[int, int] = (64, 48),
    *,
    mode: str = "RGB",
    noise: bool = False,
    **options: Any,
) -> bytes:
    """A red image, or one that compresses badly."""
    image = (
        Image.effect_noise(size, 100).convert("RGB")
        if noise
        else Image.new("RGB", size, (230, 20, 20))
    )
    if mode == "I;16":
        image = image.convert("L").convert("I").convert("I;16")
    file = io.BytesIO()
    image.convert(mode).save(file, format, **options)
    return file.getvalue()
