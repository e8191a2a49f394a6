"""The games that a person owns."""

from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.answers import page_answer
from api.auth import SignedIn
from api.fields import Page, Time
from api.reading import Cursor, Limit, Reads, now_of
from api.services import Services, ServicesOf
from api.views.games import Offered, offer_of
from commands.caller import Caller, not_yours
from domain.regions import ANY_REGION
from queries.accounts import library as library_query
from queries.accounts.library import OfferedGame
from queries.engine.paging import Page as FoundPage
from queries.engine.read_models import QueryResult, ReadModels
from queries.search.searching import SearchQuery

router = APIRouter(prefix="/api/v1", tags=["library"])

FOUND_AT_MOST = 200


class OwnedGameView(Offered):
    """A game in a library, and the order that bought it."""

    title: str
    purchase_date: Time
    order_id: UUID


@router.get("/library", response_model=Page[OwnedGameView])
async def get_library(
    request: Request,
    services: ServicesOf,
    reads: Reads,
    caller: SignedIn,
    q: Annotated[str, Query(max_length=500)] = "",
    genre: Annotated[str | None, Query(max_length=200)] = None,
    game_id: Annotated[UUID | None, Query(description="Of this game alone.")] = None,
    user_id: Annotated[
        UUID | None, Query(description="Another person's library. Requires AUDITOR or ADMIN.")
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List the caller's games, last bought first. `q` searches them in the way the catalog is
    searched."""
    owner = user_id or caller.user_id
    assert owner is not None
    if owner != caller.user_id and caller.account_type not in {"AUDITOR", "ADMIN"}:
        raise not_yours("library")
    found = await _owned(services, reads, caller, owner, q, genre, game_id, limit, cursor)
    page = Page[OwnedGameView].model_validate(found.value)
    for view, game in zip(page.items, found.value.items, strict=True):
        offer_of(view, game.prices, game.image_ids, game.region or ANY_REGION)
    return page_answer(request, page, found.position)


async def _owned(
    services: Services,
    reads: ReadModels,
    caller: Caller,
    owner: UUID,
    q: str,
    genre: str | None,
    game_id: UUID | None,
    limit: int,
    cursor: str | None,
) -> QueryResult[FoundPage[OfferedGame]]:
    library = partial(
        library_query.offered_library,
        reads,
        owner,
        viewer_id=caller.user_id,
        now=await now_of(services, reads.as_of),
        genre=genre,
        limit=limit,
        cursor=cursor,
    )
    only = None if game_id is None else [game_id]
    if not q.strip():
        return await library(game_ids=only)
    owned = await library_query.owned_ids(reads, owner)
    searched = [each for each in owned.value if only is None or each in only]
    query = SearchQuery(q=q, game_ids=searched, limit=FOUND_AT_MOST)
    result = await services.search.search(reads, query)
    page = await library(game_ids=[item.document.game_id for item in result.value.items])
    return QueryResult(page.value, min(page.position, result.position))
