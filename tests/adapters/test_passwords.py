"""Passwords are hashed and matched; the time that a login takes does not reveal who has none."""

import asyncio

import pytest
from argon2 import PasswordHasher, Type
from argon2.exceptions import VerifyMismatchError

from adapters.passwords import LONGEST_QUEUE, Argon2Hasher
from commands.ports.secrets import Overloaded


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


async def test_more_than_can_wait_for_their_turn_are_sent_away_and_the_others_have_theirs() -> None:
    hasher = Argon2Hasher(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    outcomes = await asyncio.gather(
        *(hasher.hash("correct horse") for _ in range(200)), return_exceptions=True
    )
    hashed = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert len(hashed) >= LONGEST_QUEUE
    assert {type(outcome) for outcome in outcomes} == {str, Overloaded}
    assert await hasher.matches(hashed[0], "correct horse")
