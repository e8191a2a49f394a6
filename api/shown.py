"""Which games a list shows: those on sale to everybody, others only to whose they are."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request

from api.access import access_of
from api.auth import is_closed
from api.services import ServicesOf
from domain.errors import Forbidden, Unauthorized
from queries.games import Shown


async def _shown(
    request: Request, services: ServicesOf, status: Shown = "ACTIVE", seller_id: UUID | None = None
) -> Shown:
    """Who asks is looked at only where it matters: most lists are of games on sale, and nobody's in particular."""
    if status == "ACTIVE":
        return status
    access = access_of(request.scope, services.tokens)
    if access is None:
        raise Unauthorized("unauthorized", "what is not on sale needs an access token")
    if await is_closed(services, access.user_id):
        raise Unauthorized("user_inactive", "the account is closed")
    if access.account_type != "ADMIN" and access.user_id != seller_id:
        raise Forbidden("not_yours", "what is not on sale is shown to its seller and to an ADMIN")
    return status


ShownStatus = Annotated[Shown, Depends(_shown)]
"""The status of the games that are asked for: raises Unauthorized; Forbidden("not_yours")."""
