"""Who asks: the caller of a request, from its access token, and what their role lets them do."""

from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.access import access_of
from api.context import context_of
from api.services import Services, ServicesOf
from commands.bus import Caller
from domain.errors import Forbidden, Unauthorized
from domain.identity import AccountType
from queries import users
from queries.positions import ReadModelBehind

_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="An access token, by login or registration.")


async def _proved(
    request: Request,
    services: ServicesOf,
    _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> Caller | Unauthorized:
    """Whom the token speaks for, or why nobody (unauthorized, invalid_token, user_inactive)."""
    context = context_of(request.scope)
    try:
        access = access_of(request.scope, services.tokens)
    except Unauthorized as refusal:
        return refusal
    if access is None:
        return Unauthorized("unauthorized", "this needs an access token")
    if await is_closed(services, access.user_id):
        return Unauthorized("user_inactive", "the account is closed")
    return Caller(
        f"user:{access.user_id}", access.user_id, access.account_type, context.correlation_id, None, context.traceparent
    )


async def is_closed(services: Services, user_id: UUID) -> bool:
    """Whether the account was closed since the token was minted. An account that is not projected yet is new."""
    try:
        user = (await users.user(services.reads, user_id)).value
    except ReadModelBehind:
        return False
    return user is not None and user.status in {"DEACTIVATED", "FORGOTTEN"}


Proved = Annotated[Caller | Unauthorized, Depends(_proved)]


async def _optional_caller(request: Request, proved: Proved) -> Caller:
    if isinstance(proved, Caller):
        return proved
    context = context_of(request.scope)
    return Caller("anonymous", correlation_id=context.correlation_id, traceparent=context.traceparent)


OptionalCaller = Annotated[Caller, Depends(_optional_caller)]
"""Whoever asks. Anonymous without a token, and with one that is worth nothing (any more): who needs none is served."""


async def _caller(proved: Proved) -> Caller:
    if isinstance(proved, Unauthorized):
        raise proved
    return proved


SignedIn = Annotated[Caller, Depends(_caller)]
"""A caller with an account: 401 for others."""


def _role(*allowed: AccountType) -> Callable[[Caller], Awaitable[Caller]]:
    async def check(caller: SignedIn) -> Caller:
        if caller.account_type not in allowed:
            raise Forbidden("role_required", f"this needs the role {' or '.join(allowed)}")
        return caller

    return check


Seller = Annotated[Caller, Depends(_role("SELLER", "ADMIN"))]
Admin = Annotated[Caller, Depends(_role("ADMIN"))]
Auditor = Annotated[Caller, Depends(_role("AUDITOR", "ADMIN"))]
Buyer = Annotated[Caller, Depends(_role("BUYER", "ADMIN"))]
Service = Annotated[Caller, Depends(_role("SERVICE", "ADMIN"))]
