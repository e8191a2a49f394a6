"""Encryption keys of persons, and password hashes."""

from collections.abc import Iterable
from typing import Protocol
from uuid import UUID


class Overloaded(Exception):
    """Too many slow requests at once: try again in a moment."""


class PersonKeys(Protocol):
    """The keys that encrypt personal fields."""

    async def create(self, person_ids: Iterable[UUID]) -> None: ...

    async def destroy(self, person_id: UUID) -> None: ...


class PasswordHasher(Protocol):
    """Hashes passwords slowly, off the event loop."""

    async def hash(self, password: str) -> str: ...

    async def matches(self, password_hash: str, password: str) -> bool:
        """Whether the password matches. An empty hash matches nothing, and takes the same time."""
        ...
