"""Account ids in paths."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import Depends, Path

from api.auth import SignedIn
from api.services import Services
from commands.aggregates import USER
from domain.ids import PLATFORM_ID

ME: Literal["me"] = "me"


async def _account_id(
    user_id: Annotated[
        UUID | Literal["me"], Path(description="An account's id; `me` is the caller's.")
    ],
    caller: SignedIn,
) -> UUID:
    return caller.person() if user_id == ME else user_id


AccountId = Annotated[UUID, Depends(_account_id)]
"""The account id in `{user_id}`; `me` becomes the caller's. Raises Unauthorized."""


async def check_account_exists(services: Services, user_id: UUID) -> None:
    """Raises NotFound("user_not_found") unless the account exists, so that an unknown account does
    not look like one with an empty list. The platform sells games without having an account."""
    if user_id != PLATFORM_ID:
        await services.repository.get(USER, user_id, fresh=False)
