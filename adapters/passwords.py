"""Argon2id (RFC 9106) by argon2-cffi, in threads, a few at a time, as
each hash takes its memory."""

import asyncio
import os
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from commands.ports.secrets import Overloaded
from domain.passwords import MAX_TYPED_PASSWORD, as_compared

LONGEST_QUEUE = 40
"""How many may wait for their turn (some seconds); more are refused, so that no login waits long
behind a flood."""


class Argon2Hasher:
    """Implements `commands.ports.secrets.PasswordHasher`. `hasher` sets the cost; the default is
    RFC 9106's for little memory.

    Passwords are hashed in their normalized form (`domain.passwords.as_compared`); the first
    releases hashed them as typed.
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._places = asyncio.Semaphore(os.cpu_count() or 2)
        self._nobody = _nobodys(self._hasher)
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """A hash to store. Raises Overloaded."""
        async with self._turn():
            return await asyncio.to_thread(self._hasher.hash, as_compared(password))

    async def matches(self, password_hash: str, password: str) -> bool:
        """Whether the password is right. Takes as long without a hash, so that timing reveals
        nothing.

        Raises Overloaded.
        """
        async with self._turn():
            matches = await asyncio.to_thread(
                self._is_either, password_hash or self._nobody, password
            )
        return matches and bool(password_hash)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._waiting >= LONGEST_QUEUE:
            raise Overloaded
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._places.release()

    def _is_either(self, password_hash: str, password: str) -> bool:
        """Try each form in which the password may have been hashed; the spelling alone decides how
        many there are."""
        if len(password) > MAX_TYPED_PASSWORD:
            return self._verify(password_hash, password)
        # all, for the time
        tried = [self._verify(password_hash, form) for form in {as_compared(password), password}]
        return any(tried)

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False


def _nobodys(hasher: PasswordHasher) -> str:
    """A hash that no password matches, but that takes as long to verify. It is made up, as hashing
    would slow every start."""
    salt, tag = (
        b64encode(os.urandom(size)).decode().rstrip("=")
        for size in (hasher.salt_len, hasher.hash_len)
    )
    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2{hasher.type.name.lower()}$v=19${cost}${salt}${tag}"
