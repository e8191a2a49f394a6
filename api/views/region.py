"""The region whose prices are shown and compared: the requested one, else the caller's, else
`*`."""

from typing import Annotated

from fastapi import Depends, Query, Request

from api.access import access_of
from api.fields import Currency, PriceRegion
from api.services import ServicesOf
from commands.aggregates import USER
from domain.errors import Unauthorized
from domain.regions import ANY_REGION
from queries.catalog.region_currencies import RegionCurrencies
from queries.engine.read_models import ReadModels


async def _caller_region(request: Request, services: ServicesOf) -> str:
    """The caller's region, from the log: users who have just moved should see their new prices."""
    try:
        access = access_of(request.scope, services.tokens)
    except Unauthorized:
        access = None
    user = None if access is None else await services.repository.state(USER, access.user_id)
    return ANY_REGION if user is None else user.region


CallerRegion = Annotated[str, Depends(_caller_region)]
"""The caller's region, or `*` without an account."""


async def _region(
    request: Request,
    services: ServicesOf,
    region: Annotated[
        PriceRegion | None,
        Query(
            description=(
                "The region whose prices count: a country, or `*` for all others. By default the"
                " caller's region."
            )
        ),
    ] = None,
) -> str:
    return await _caller_region(request, services) if region is None else region


ViewRegion = Annotated[str, Depends(_region)]
"""The requested region, else the caller's."""

ViewCurrency = Annotated[
    Currency | None,
    Query(
        description=(
            "The currency in which prices are compared and counted. By default the region's."
        )
    ),
]


async def currency_of(request: Request, reads: ReadModels, region: str, asked: str | None) -> str:
    """The requested currency, else the region's own."""
    currencies: RegionCurrencies = request.app.state.region_currencies
    return asked or (await currencies.currency(reads, region)).value
