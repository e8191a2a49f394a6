"""Images as files in a folder, where no S3 is configured."""

import asyncio
import os
from pathlib import Path
from uuid import uuid4


class ImageFolder:
    """Implements `ImageStore`. Of concurrent writes of a file, one wins as a whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, key: str, content: bytes) -> None:
        """See `ImageStore`."""
        await asyncio.to_thread(self._write, key, content)

    async def get(self, key: str) -> bytes | None:
        """See `ImageStore`."""
        return await asyncio.to_thread(self._read, key)

    async def exists(self, key: str) -> bool:
        """See `ImageStore`."""
        return await asyncio.to_thread(self._path(key).exists)

    def _write(self, key: str, content: bytes) -> None:
        path = self._path(key)
        if path.exists():  # the content of a key never changes
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path.with_suffix(f".{uuid4().hex}.part")
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)  # whole or absent

    def _read(self, key: str) -> bytes | None:
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            return None

    def _path(self, key: str) -> Path:
        """Grouped by the key's first letters, so that no folder grows too large."""
        return self._folder / key[:2] / key
