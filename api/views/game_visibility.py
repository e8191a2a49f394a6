"""Which games a list shows: those on sale to everybody, others only to whose they are."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request

from api.auth import proved
from domain.errors import Forbidden, Unauthorized
from queries.games import Shown


async def _shown(request: Request, status: Shown = "ACTIVE", seller_id: UUID | None = None) -> Shown:
    """Who asks is looked at only where it matters: most lists are of games on sale, and nobody's in particular."""
    if status == "ACTIVE":
        return status
    caller = await proved(request)
    if isinstance(caller, Unauthorized):
        raise caller
    if not caller.is_admin and caller.user_id != seller_id:
        raise Forbidden("not_yours", "what is not on sale is shown to its seller and to an ADMIN")
    return status


ShownStatus = Annotated[Shown, Depends(_shown)]
"""The status of the games that are asked for: raises Unauthorized; Forbidden("not_yours")."""
