"""Who asks: the caller of a request, from its access token, and which callers a route admits.

A route declares whom it admits by the `Access` among its dependencies, which `api.routing` asks before a body is read.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request

from api.access import access_of
from api.middleware.context import context_of
from api.services import Services
from commands.aggregates import GAME, SHIPMENT
from commands.handler import Caller
from domain.errors import Forbidden, NotFound, Unauthorized
from domain.identity import AccountType

Owner = Callable[[Services, UUID], Awaitable[UUID | None]]
"""Whose a thing is, by its id; None when there is no such thing, which is told only after the body was looked at."""


async def proved(request: Request) -> Caller | Unauthorized:
    """Whom the token speaks for, or why nobody: unauthorized, invalid_token, session_ended. Looked up once."""
    state = request.scope["state"]
    if "caller" not in state:
        state["caller"] = await _prove(request)
    found: Caller | Unauthorized = state["caller"]
    return found


async def _prove(request: Request) -> Caller | Unauthorized:
    services: Services = request.app.state.services
    context = context_of(request.scope)
    try:
        access = access_of(request.scope, services.tokens)
    except Unauthorized as refusal:
        return refusal
    if access is None:
        return Unauthorized("unauthorized", "this needs an access token")
    try:
        await services.commands.session_ends.check(access.opened)
    except Unauthorized as refusal:
        return refusal
    return Caller(
        f"user:{access.user_id}",
        access.user_id,
        access.account_type,
        context.correlation_id,
        traceparent=context.traceparent,
        session_id=access.session_id,
    )


async def asking(request: Request) -> Caller:
    """Whoever asks: anonymous without a token, and with one that is worth nothing (any more)."""
    found = await proved(request)
    if isinstance(found, Caller):
        return found
    context = context_of(request.scope)
    return Caller("anonymous", correlation_id=context.correlation_id, traceparent=context.traceparent)


Asking = Annotated[Caller, Depends(asking)]
"""Whoever asks, for what routes share. It admits everybody, and so does not say whom a route admits."""


class Access:
    """Whom a route admits: anybody, who has an account, or some roles alone. Raises Unauthorized, Forbidden.

    `owner` names the path parameter of what only its owner or an ADMIN may change, and how to find whose that is; it
    is asked where there is a body that must not be judged for others. `code` is what the wrong role is told.
    """

    def __init__(
        self,
        *roles: AccountType,
        anybody: bool = False,
        code: str = "role_required",
        owner: tuple[str, Owner] | None = None,
        owner_code: str = "not_yours",
    ) -> None:
        self.roles, self.anybody, self.code = frozenset(roles), anybody, code
        self.owner, self.owner_code = owner, owner_code
        self._refusal = f"this needs the role {' or '.join(roles)}"

    async def __call__(self, request: Request) -> Caller:
        if self.anybody:
            return await asking(request)
        caller = await proved(request)
        if isinstance(caller, Unauthorized):
            raise caller
        if self.roles and caller.account_type not in self.roles:
            raise Forbidden(self.code, self._refusal)
        if self.owner is not None and not caller.is_admin:
            await self._must_own(request, caller)
        return caller

    async def _must_own(self, request: Request, caller: Caller) -> None:
        assert self.owner is not None
        parameter, owner_of = self.owner
        try:
            owner = await owner_of(request.app.state.services, UUID(request.path_params[parameter]))
        except (ValueError, NotFound):  # which is told with whatever else is wrong
            return
        if owner is not None and not caller.may_act_for(owner):
            raise Forbidden(self.owner_code, "that is another person's")


async def _seller_of_game(services: Services, game_id: UUID) -> UUID | None:
    game = await services.repository.seen(GAME, game_id)
    return None if game is None else game.seller_id


async def _seller_of_shipment(services: Services, shipment_id: UUID) -> UUID | None:
    shipment = await services.repository.seen(SHIPMENT, shipment_id)
    return None if shipment is None else shipment.seller_id


async def _oneself(_: Services, user_id: UUID) -> UUID:
    return user_id


EVERYBODY = Depends(Access(anybody=True))
"""For a route that needs no caller: the one whose signature, if any, is the proof, or what is told to all."""

OptionalCaller = Annotated[Caller, Depends(Access(anybody=True))]
"""Whoever asks. Anonymous without a token, and with one that is worth nothing (any more): who needs none is served."""

SignedIn = Annotated[Caller, Depends(Access())]
"""A caller with an account: 401 for others."""

Seller = Annotated[Caller, Depends(Access("SELLER", "ADMIN"))]
Merchant = Annotated[Caller, Depends(Access("SELLER", "ADMIN", code="not_a_seller"))]
Stockkeeper = Annotated[Caller, Depends(Access("SELLER", "ADMIN", code="not_yours"))]
Admin = Annotated[Caller, Depends(Access("ADMIN"))]
Auditor = Annotated[Caller, Depends(Access("AUDITOR", "ADMIN"))]
Buyer = Annotated[Caller, Depends(Access("BUYER", "ADMIN"))]
Service = Annotated[Caller, Depends(Access("SERVICE", "ADMIN"))]

_games_seller = Access(
    "SELLER", "ADMIN", code="not_a_seller", owner=("game_id", _seller_of_game), owner_code="not_owner"
)
SellerOfGame = Annotated[Caller, Depends(_games_seller)]
_shipments_seller = Access("SELLER", "ADMIN", code="not_yours", owner=("shipment_id", _seller_of_shipment))
SellerOfShipment = Annotated[Caller, Depends(_shipments_seller)]
Oneself = Annotated[Caller, Depends(Access(owner=("user_id", _oneself)))]
SellerOneself = Annotated[Caller, Depends(Access(owner=("seller_id", _oneself)))]
