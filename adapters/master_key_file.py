"""Master keys in a file: a line for each, with 32 random bytes in base64. Lines that begin with #
are comments."""

import os
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Sequence
from pathlib import Path

import msgspec

from eventstore.master_keys import KEY_BYTES


class MasterKeyFile(msgspec.Struct, frozen=True):
    """Implements `eventstore.master_keys.MasterKeySource`. Only the owner may read the file."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def load(self) -> Sequence[bytes]:
        """The keys in the file; none if it is not there. Raises OSError; ValueError for a line that
        is no key."""
        try:
            lines = self.path.read_text(encoding="ascii", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        return [
            self._key(line.strip(), number)
            for number, line in enumerate(lines, 1)
            if line.strip() and not line.startswith("#")
        ]

    def add(self, key: bytes) -> None:
        """Add a line, after those that are there. The file has either all or none of it. Raises
        OSError."""
        before = self.path.read_bytes() if self.path.exists() else b""
        if before and not before.endswith(b"\n"):
            before += b"\n"
        half = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(before + b64encode(key) + b"\n")
            file.flush()
            os.fsync(descriptor)
        half.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _key(self, line: str, number: int) -> bytes:
        try:
            key = b64decode(line, validate=True)
        except (Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise ValueError(
                f"{self.path}, line {number}: a master key is {KEY_BYTES} random bytes in base64,"
                " as `openssl rand -base64 32` prints them"
            )
        return key
