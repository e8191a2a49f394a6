"""Whose prices are shown and compared: those of the region asked for, else of the caller's, else of everywhere."""

from typing import Annotated

from fastapi import Depends, Query, Request

from api.access import access_of
from api.fields import Currency, PriceRegion
from api.services import Services, ServicesOf
from commands.aggregates import USER
from domain.errors import Unauthorized
from domain.regions import ANY_REGION
from queries.read_models import ReadModels


async def _caller_region(request: Request, services: ServicesOf) -> str:
    """From the log: who has just moved sees the prices there."""
    try:
        access = access_of(request.scope, services.tokens)
    except Unauthorized:
        access = None
    user = None if access is None else await services.repository.state(USER, access.user_id)
    return ANY_REGION if user is None else user.region


CallerRegion = Annotated[str, Depends(_caller_region)]
"""Where the caller lives; `*` for who has no account."""


async def _region(
    request: Request,
    services: ServicesOf,
    region: Annotated[
        PriceRegion | None,
        Query(description="Whose prices count: a country, or `*` for those of everywhere else. Yours, if you sign in."),
    ] = None,
) -> str:
    return await _caller_region(request, services) if region is None else region


ViewRegion = Annotated[str, Depends(_region)]
"""The region that a list is asked for, else the caller's."""

ViewCurrency = Annotated[
    Currency | None,
    Query(description="In what prices are compared and counted. By default what the region is priced in."),
]


async def currency_of(services: Services, reads: ReadModels, region: str, asked: str | None) -> str:
    """The currency asked for, else what the region is priced in."""
    return asked or (await services.game_pages.currency(reads, region)).value
