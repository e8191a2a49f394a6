"""Argon2id (RFC 9106) by argon2-cffi, in threads, a few at a time: each hash takes its memory."""

import asyncio
import os

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError


class Argon2Hasher:
    """Fulfils `commands.ports.PasswordHasher`. `hasher` sets the cost; the default is RFC 9106's for little memory."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._places = asyncio.Semaphore(os.cpu_count() or 2)
        self._nobody = self._hasher.hash("nobody has this password")

    async def hash(self, password: str) -> str:
        """A hash to store."""
        async with self._places:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def matches(self, password_hash: str, password: str) -> bool:
        """Whether the password is right; takes as long when there is no hash, so that time tells nothing."""
        async with self._places:
            matches = await asyncio.to_thread(self._verify, password_hash or self._nobody, password)
        return matches and bool(password_hash)

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False
