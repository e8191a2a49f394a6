"""Images of games. Each is checked and redrawn before it is stored, and its id is a hash of the
uploaded bytes: the same upload is the same image, and an image never changes. Images are not in the
log; games refer to them by id.
"""

import asyncio
import hashlib
from collections.abc import Iterable
from typing import Literal
from uuid import UUID

from commands.caller import Caller
from commands.catalog import seller_of
from commands.ports.images import ImageFetcher, ImageMaker, ImageStore
from domain.errors import Invalid, NotFound

MAX_IMAGE_BYTES = 5 * 1024 * 1024

Size = Literal["full", "thumb"]


class ImageCommands:
    """Stores images of SELLERs and ADMINs, and shows them to everybody. All methods may raise
    ImageStoreUnavailable."""

    def __init__(self, store: ImageStore, maker: ImageMaker, fetcher: ImageFetcher) -> None:
        self._store = store
        self._maker = maker
        self._fetcher = fetcher

    async def upload(self, caller: Caller, content: bytes) -> UUID:
        """Store an image. Returns its id. Raises Forbidden("not_a_seller"); Invalid:
        image_unsupported, image_broken, image_too_large."""
        seller_of(caller)
        return await self._keep(content)

    async def upload_from(self, caller: Caller, url: str) -> UUID:
        """As `upload`, of the image at a URL. Also raises Invalid: image_url_refused,
        image_unreachable."""
        seller_of(caller)
        return await self._keep(await self._fetcher.fetch(url, MAX_IMAGE_BYTES))

    async def read(self, image_id: UUID, size: Size = "full") -> bytes:
        """The bytes of an image. Raises NotFound("image_not_found")."""
        content = await self._store.get(_key(image_id, size))
        if content is None:
            raise NotFound("image_not_found", "there is no such image")
        return content

    async def check(self, caller: Caller, image_ids: Iterable[UUID]) -> None:
        """Check that a game may show these images. Raises Forbidden("not_a_seller");
        Invalid("image_not_found") unless all exist."""
        wanted = list(set(image_ids))
        if not wanted:
            return
        seller_of(caller)
        there = await asyncio.gather(
            *(self._store.exists(_key(image_id, "thumb")) for image_id in wanted)
        )
        for image_id, is_there in zip(wanted, there, strict=True):
            if not is_there:
                raise Invalid("image_not_found", f"there is no image {image_id}: upload it first")

    async def _keep(self, content: bytes) -> UUID:
        image_id = _id_of(content)
        picture = await self._maker.make(content)
        await self._store.put(_key(image_id, "full"), picture.full)
        # last: a thumbnail implies the full image
        await self._store.put(_key(image_id, "thumb"), picture.thumbnail)
        return image_id


def _id_of(content: bytes) -> UUID:
    return UUID(bytes=hashlib.sha256(content).digest()[:16], version=5)


def _key(image_id: UUID, size: Size) -> str:
    return f"{image_id}-{size}"
