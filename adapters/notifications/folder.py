"""A folder of messages, each a file."""

import os
from pathlib import Path


class MessageFolder:
    """A private folder that messages are written to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, name: str, content: bytes) -> str:
        """Write a file, whole or not at all, but without waiting for the disk. Returns its name.

        Not in a thread: changing to one and back takes longer than writing a file of this size.
        """
        path = self._path / name
        part = f"{path}.{os.getpid()}.part"
        with open(part, "wb", buffering=len(content) + 1) as file:
            file.write(content)
        os.replace(part, path)
        return name
