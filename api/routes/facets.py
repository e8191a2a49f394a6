"""The categories and genres of the games on sale."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.answers import Content, page_content
from api.auth import EVERYBODY
from api.fields import Page
from api.kept_answers import KeptAnswers
from api.reading import Cursor, Limit, Reads
from api.views.games import FacetCount
from queries.catalog.facets import Facet, facet_values
from queries.engine.paging import MAX_LIMIT
from queries.engine.read_models import ReadModels

router = APIRouter(prefix="/api/v1", tags=["catalog"], dependencies=[EVERYBODY])


@router.get("/categories", response_model=Page[FacetCount])
async def list_categories(
    request: Request, reads: Reads, limit: Limit = MAX_LIMIT, cursor: Cursor = None
) -> Response:
    """List the categories of the games on sale, those with most games first."""
    return await _values(request, reads, "category", limit, cursor)


@router.get("/genres", response_model=Page[FacetCount])
async def list_genres(
    request: Request, reads: Reads, limit: Limit = MAX_LIMIT, cursor: Cursor = None
) -> Response:
    """List the genres of the games on sale, those with most games first."""
    return await _values(request, reads, "genre", limit, cursor)


async def _values(
    request: Request, reads: ReadModels, facet: Facet, limit: int, cursor: str | None
) -> Response:
    async def make(reads: ReadModels) -> tuple[Content, int]:
        found = await facet_values(reads, facet, limit=limit, cursor=cursor)
        page = Page[FacetCount].model_validate(found.value)
        return page_content(request, page), found.position

    kept_answers: KeptAnswers = request.app.state.kept_answers
    return await kept_answers.answer(request, reads, make)
