"""The shop's window: the games that sell best, and those that are reduced."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.answers import Content, respond
from api.auth import EVERYBODY
from api.fields import Page
from api.kept_answers import KeptAnswers
from api.reading import Cursor, Limit, Reads, now_of
from api.services import ServicesOf
from api.views.game_offers import games_content
from api.views.games import DatedGame
from api.views.region import ViewRegion
from queries.catalog import storefront
from queries.engine.read_models import ReadModels

router = APIRouter(prefix="/api/v1", tags=["catalog"], dependencies=[EVERYBODY])


@router.get("/games/best-selling", response_model=Page[DatedGame])
async def list_best_selling(
    request: Request,
    services: ServicesOf,
    reads: Reads,
    region: ViewRegion,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response:
    """List the games on sale that were sold, those sold most often first."""
    found = await storefront.best_selling(reads, limit=limit, cursor=cursor)
    return respond(request, *await games_content(request, services, reads, found, region))


@router.get("/games/reduced", response_model=Page[DatedGame])
async def list_reduced(
    request: Request,
    services: ServicesOf,
    reads: Reads,
    region: ViewRegion,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response:
    """List the games whose price in a region was lowered within the last 30 days, below all prices
    of the 30 days before (`reduced_from_cents` is the lowest of those); the last lowered first."""

    async def make(reads: ReadModels) -> tuple[Content, int]:
        now = await now_of(services, reads.as_of)
        found = await storefront.reduced(reads, region, now, limit=limit, cursor=cursor)
        return await games_content(request, services, reads, found, region)

    kept_answers: KeptAnswers = request.app.state.kept_answers
    return await kept_answers.answer(request, reads, make)
