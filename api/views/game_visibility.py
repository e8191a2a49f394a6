"""Visibility of games in lists: ACTIVE ones for everyone, the rest for
their seller and an ADMIN."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request

from api.auth import authenticated
from domain.errors import Forbidden, Unauthorized
from queries.games import StatusFilter


async def _visible_status(
    request: Request, status: StatusFilter = "ACTIVE", seller_id: UUID | None = None
) -> StatusFilter:
    """The caller is looked up only if needed: most lists are of games on sale."""
    if status == "ACTIVE":
        return status
    caller = await authenticated(request)
    if isinstance(caller, Unauthorized):
        raise caller
    if not caller.is_admin and caller.user_id != seller_id:
        raise Forbidden("not_yours", "what is not on sale is shown to its seller and to an ADMIN")
    return status


VisibleStatus = Annotated[StatusFilter, Depends(_visible_status)]
"""The requested status of games: raises Unauthorized; Forbidden("not_yours")."""
