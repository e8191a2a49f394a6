"""Passwords: hashed, matched, and of those who have none nothing is told by the time it takes."""

import pytest
from argon2 import PasswordHasher, Type
from argon2.exceptions import VerifyMismatchError

from adapters.passwords import Argon2Hasher


async def test_a_password_matches_its_hash_and_no_other_does() -> None:
    hasher = Argon2Hasher(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    kept = await hasher.hash("correct horse")
    assert await hasher.matches(kept, "correct horse")
    assert not await hasher.matches(kept, "battery staple")
    assert not await hasher.matches("no hash at all", "correct horse")


@pytest.mark.parametrize("type", [Type.ID, Type.I])
async def test_who_has_no_password_costs_the_work_of_one(type: Type) -> None:
    verified: list[str] = []

    class Watched(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
            with pytest.raises(VerifyMismatchError):  # computed, not refused as malformed
                super().verify(hash, password)
            verified.append(str(hash))
            raise VerifyMismatchError

    costly = Watched(time_cost=2, memory_cost=16, parallelism=1, type=type)
    assert not await Argon2Hasher(costly).matches("", "correct horse")
    assert verified[0].rsplit("$", 2)[0] == costly.hash("x").rsplit("$", 2)[0]
