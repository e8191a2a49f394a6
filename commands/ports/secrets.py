"""Keys of persons, and hashes of passwords."""

from collections.abc import Iterable
from typing import Protocol
from uuid import UUID


class Overloaded(Exception):
    """Too many ask at once for what takes long: ask again in a moment."""


class PersonKeys(Protocol):
    """Keys that personal fields are encrypted under."""

    async def create(self, person_ids: Iterable[UUID]) -> None: ...

    async def destroy(self, person_id: UUID) -> None: ...


class PasswordHasher(Protocol):
    """Hashes passwords slowly, off the event loop."""

    async def hash(self, password: str) -> str: ...

    async def matches(self, password_hash: str, password: str) -> bool:
        """False for another password; an empty hash matches nothing, in the same time."""
        ...
