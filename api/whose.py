"""Whose account a path is about."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import Depends, Path

from api.auth import SignedIn

ME: Literal["me"] = "me"


async def _whose(
    user_id: Annotated[UUID | Literal["me"], Path(description="An account's id; `me` is the caller's.")],
    caller: SignedIn,
) -> UUID:
    return caller.person() if user_id == ME else user_id


AccountId = Annotated[UUID, Depends(_whose)]
"""The account that `{user_id}` names: raises Unauthorized."""
