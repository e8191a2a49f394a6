"""The caller of a request, and which callers a route admits.

A route declares whom it admits with the `Access` among its dependencies. `api.routing` checks it
before reading the body.
"""

import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request

from api.access import access_of
from api.middleware.context import context_of
from api.services import Services
from commands.aggregates import GAME, SHIPMENT
from commands.caller import Caller
from domain.errors import Forbidden, NotFound, Unauthorized
from domain.identity import AccountType

TAKES_AS_OF = "takes_as_of"
"""The item of a request's state that says whether its route has the parameter `as_of`: where it has
none, asking for the past admits nobody."""

Owner = Callable[[Services, UUID], Awaitable[UUID | None]]
"""Finds the owner of a resource by its id. Returns None if there is no such resource, which is
reported only after the body was checked."""


async def authenticated(request: Request) -> Caller | Unauthorized:
    """The caller that the request's token proves, or the refusal: unauthorized, invalid_token or
    session_ended. Computed once per request."""
    state = request.scope["state"]
    if "caller" not in state:
        state["caller"] = await _authenticate(request)
    found: Caller | Unauthorized = state["caller"]
    return found


async def _authenticate(request: Request) -> Caller | Unauthorized:
    services: Services = request.app.state.services
    context = context_of(request.scope)
    try:
        access = access_of(request.scope, services.tokens)
    except Unauthorized as refusal:
        return refusal
    if access is None:
        return Unauthorized("unauthorized", "this requires an access token")
    try:
        await services.session_ends.check(access.opened)
    except Unauthorized as refusal:
        return refusal
    return Caller(
        f"user:{access.user_id}",
        access.user_id,
        access.account_type,
        context.correlation_id,
        traceparent=context.traceparent,
        session_id=access.session_id,
        audits=access.account_type == "AUDITOR" and _asks_for_the_past(request),
    )


def _asks_for_the_past(request: Request) -> bool:
    takes_as_of: bool = request.scope["state"].get(TAKES_AS_OF, False)
    return takes_as_of and request.method in {"GET", "HEAD"} and "as_of" in request.query_params


async def caller_or_anonymous(request: Request) -> Caller:
    """The caller; anonymous without a valid token."""
    found = await authenticated(request)
    return found if isinstance(found, Caller) else _anonymous(request)


def _anonymous(request: Request) -> Caller:
    context = context_of(request.scope)
    return Caller(
        "anonymous", correlation_id=context.correlation_id, traceparent=context.traceparent
    )


AnyCaller = Annotated[Caller, Depends(caller_or_anonymous)]
"""The caller, for dependencies that routes share. It admits everybody, and so does not declare a
route's access."""


class Access:
    """Who may call a route: anybody, account holders, or some roles. An AUDITOR may also read what
    was. Raises Unauthorized, Forbidden.

    `owner` is (path parameter, lookup) of a resource that only its owner or an ADMIN may change.
    Use it where others must not learn whether their body is valid. `code` is the refusal for a
    wrong role, `owner_code` that for another's resource.
    """

    def __init__(
        self,
        *roles: AccountType,
        anybody: bool = False,
        code: str = "role_required",
        owner: tuple[str, Owner] | None = None,
        owner_code: str = "not_yours",
    ) -> None:
        self.roles = frozenset(roles)
        self.anybody = anybody
        self.code = code
        self.owner = owner
        self.owner_code = owner_code
        self._refusal = f"this requires the role {' or '.join(roles)}"

    async def __call__(self, request: Request) -> Caller:
        if self.anybody:
            return await caller_or_anonymous(request)
        caller = await authenticated(request)
        if isinstance(caller, Unauthorized):
            raise caller
        if self.roles and caller.account_type not in self.roles and not caller.audits:
            raise Forbidden(self.code, self._refusal)
        if self.owner is not None and not caller.sees_all:
            await self._must_own(request, caller)
        return caller

    async def _must_own(self, request: Request, caller: Caller) -> None:
        assert self.owner is not None
        parameter, owner_of = self.owner
        try:
            owner = await owner_of(request.app.state.services, UUID(request.path_params[parameter]))
        except (ValueError, NotFound):  # reported later, by the route
            return
        if owner is not None and not caller.may_act_for(owner):
            raise Forbidden(self.owner_code, "you may not access what belongs to another person")


async def _seller_of_game(services: Services, game_id: UUID) -> UUID | None:
    game = await services.repository.cached(GAME, game_id)
    return None if game is None else game.seller_id


async def _seller_of_shipment(services: Services, shipment_id: UUID) -> UUID | None:
    shipment = await services.repository.cached(SHIPMENT, shipment_id)
    return None if shipment is None else shipment.seller_id


async def _oneself(_: Services, user_id: UUID) -> UUID:
    return user_id


class _Unasked(Access):
    """Admits everybody, and asks nobody who they are: whether a session has ended is in the log,
    which probes, metrics and images must not wait for."""

    async def __call__(self, request: Request) -> Caller:
        return _anonymous(request)


class SecretAccess(Access):
    """Admits who has the token of LUDOTECA_ALERTMANAGER_TOKEN, which is no account's; nobody, where
    it is not set."""

    async def __call__(self, request: Request) -> Caller:
        services: Services = request.app.state.services
        token = services.settings.alertmanager_token
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode(), token.encode())
        if not token or scheme.lower() != "bearer" or not same:
            raise Unauthorized(
                "unauthorized", "this requires the token LUDOTECA_ALERTMANAGER_TOKEN"
            )
        context = context_of(request.scope)
        return Caller(
            "alertmanager", correlation_id=context.correlation_id, traceparent=context.traceparent
        )


EVERYBODY = Depends(_Unasked(anybody=True))
"""For a route without a caller. If it needs a proof, that is a signature."""

OptionalCaller = Annotated[Caller, Depends(Access(anybody=True))]
"""The caller; anonymous without a valid token."""

SignedIn = Annotated[Caller, Depends(Access())]
"""A caller with an account. Others get 401."""

Seller = Annotated[Caller, Depends(Access("SELLER", "ADMIN"))]
Merchant = Annotated[Caller, Depends(Access("SELLER", "ADMIN", code="not_a_seller"))]
Stockkeeper = Annotated[Caller, Depends(Access("SELLER", "ADMIN", code="not_yours"))]
Admin = Annotated[Caller, Depends(Access("ADMIN"))]
Auditor = Annotated[Caller, Depends(Access("AUDITOR", "ADMIN"))]
Buyer = Annotated[Caller, Depends(Access("BUYER", "ADMIN"))]
Alertmanager = Annotated[Caller, Depends(SecretAccess())]
Service = Annotated[Caller, Depends(Access("SERVICE", "ADMIN"))]

_games_seller = Access(
    "SELLER",
    "ADMIN",
    code="not_a_seller",
    owner=("game_id", _seller_of_game),
    owner_code="not_owner",
)
SellerOfGame = Annotated[Caller, Depends(_games_seller)]
_shipments_seller = Access(
    "SELLER", "ADMIN", code="not_yours", owner=("shipment_id", _seller_of_shipment)
)
SellerOfShipment = Annotated[Caller, Depends(_shipments_seller)]
Oneself = Annotated[Caller, Depends(Access(owner=("user_id", _oneself)))]
SellerOneself = Annotated[Caller, Depends(Access(owner=("seller_id", _oneself)))]
