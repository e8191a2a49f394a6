"""Which games a list may show: everyone sees ACTIVE ones, only their seller and an ADMIN the
rest."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request

from api.auth import authenticated
from domain.errors import Forbidden, Unauthorized
from queries.catalog.games import StatusFilter


async def _visible_status(
    request: Request, status: StatusFilter = "ACTIVE", seller_id: UUID | None = None
) -> StatusFilter:
    """The caller is authenticated only if needed, as most lists are of games on sale."""
    if status == "ACTIVE":
        return status
    caller = await authenticated(request)
    if isinstance(caller, Unauthorized):
        raise caller
    if not caller.sees_all and caller.user_id != seller_id:
        raise Forbidden(
            "not_yours", "only their seller and an ADMIN see games that are not on sale"
        )
    return status


VisibleStatus = Annotated[StatusFilter, Depends(_visible_status)]
"""The requested status of games. Raises Unauthorized; Forbidden("not_yours")."""
