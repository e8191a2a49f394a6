"""Making, fetching and storing images."""

from typing import Protocol

import msgspec


class Picture(msgspec.Struct, frozen=True):
    """An image that is safe to serve, and its thumbnail, both in the same format: PNG, JPEG or
    WebP."""

    full: bytes
    thumbnail: bytes


class ImageMaker(Protocol):
    """Makes images from what people send, off the event loop."""

    async def make(self, content: bytes) -> Picture:
        """Raises Invalid: image_unsupported, image_broken, image_too_large."""
        ...


class ImageFetcher(Protocol):
    """Fetches images from addresses that people give us."""

    async def fetch(self, url: str, max_bytes: int) -> bytes:
        """Raises Invalid: image_url_refused, image_unreachable, image_too_large."""
        ...


class ImageStoreUnavailable(Exception):
    """The store did not answer, or not usefully: try again later."""


class ImageStore(Protocol):
    """Stores bytes under keys of letters, digits and dashes. The bytes under a key never change.
    All methods may raise ImageStoreUnavailable."""

    async def put(self, key: str, content: bytes) -> None:
        """Store the bytes. Returns when they are safe."""
        ...

    async def get(self, key: str) -> bytes | None: ...

    async def exists(self, key: str) -> bool: ...
