"""How pictures are made, fetched and kept."""

from typing import Protocol

import msgspec


class Picture(msgspec.Struct, frozen=True):
    """An image made safe to serve, and its thumbnail: bytes of the same format, PNG, JPEG or
    WebP."""

    full: bytes
    thumbnail: bytes


class ImageMaker(Protocol):
    """Makes images of what people send, off the event loop."""

    async def make(self, content: bytes) -> Picture:
        """Raises Invalid: image_unsupported, image_broken, image_too_large."""
        ...


class ImageFetcher(Protocol):
    """Gets images from addresses that people give us."""

    async def fetch(self, url: str, max_bytes: int) -> bytes:
        """Raises Invalid: image_url_refused, image_unreachable, image_too_large."""
        ...


class ImageStoreUnavailable(Exception):
    """The store gave no answer, or none that helps: try again later."""


class ImageStore(Protocol):
    """Keeps bytes under keys of letters, digits and dashes. What is under a key never changes. All
    may raise ImageStoreUnavailable."""

    async def put(self, key: str, content: bytes) -> None:
        """Returns when the bytes are safe."""
        ...

    async def get(self, key: str) -> bytes | None: ...

    async def exists(self, key: str) -> bool: ...
