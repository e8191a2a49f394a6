"""Browsing and searching games."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.account_ids import check_account_exists
from api.answers import Content, answer, etag, list_content, respond
from api.auth import EVERYBODY, OptionalCaller, SellerOneself
from api.fields import Page
from api.kept_answers import KeptAnswers
from api.reading import Cursor, Limit, Reads, found, now_of
from api.services import Services, ServicesOf
from api.views.found_games import search_page
from api.views.game_offers import (
    earliest,
    games_content,
    offered,
    show_offers,
    show_reduction,
    show_stock,
)
from api.views.game_visibility import VisibleStatus
from api.views.games import DatedGame, Offered, SearchPage, TitleView, offer_of
from api.views.region import CallerRegion, ViewCurrency, ViewRegion, currency_of
from commands.aggregates import GAME
from domain.catalog import Status as GameStatus
from domain.ids import stock_id
from queries.catalog import games as games_query
from queries.catalog.stock import offers, seen_offers
from queries.catalog.storefront import reduction_in
from queries.engine.paging import MAX_LIMIT
from queries.engine.read_models import ReadModels
from queries.search.port import Sort as SearchSort
from queries.search.searching import SearchQuery

router = APIRouter(prefix="/api/v1", tags=["catalog"])

OFFERED = {*Offered.model_fields, "reduced_from_cents"} - {"game_id"}
"""The fields of a game's view that do not come from the game's own stream."""

Filter = Annotated[str | None, Query(max_length=200)]
PriceLimit = Annotated[
    int | None,
    Query(ge=0, lt=2**53, description="An inclusive limit, in the currency's smallest unit."),
]


@router.get("/games", response_model=Page[DatedGame], dependencies=[EVERYBODY])
async def browse_games(
    request: Request,
    services: ServicesOf,
    reads: Reads,
    status: VisibleStatus,
    region: ViewRegion,
    category: Filter = None,
    genre: Filter = None,
    tag: Filter = None,
    platform: Filter = None,
    seller_id: UUID | None = None,
    price_min: PriceLimit = None,
    price_max: PriceLimit = None,
    currency: ViewCurrency = None,
    sort: games_query.Sort = "newest",
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response:
    """List the games on sale. With `status`, an ADMIN can list games of another status (or ANY),
    and sellers their own."""
    compares = sort in {"price", "-price"} or price_min is not None or price_max is not None

    async def make(reads: ReadModels) -> tuple[Content, int]:
        wanted = games_query.Browse(
            category=category,
            genre=genre,
            tag=tag,
            platform=platform,
            seller_id=seller_id,
            status=status,
            price_min=price_min,
            price_max=price_max,
            region=region,
            currency=await currency_of(request, reads, region, currency) if compares else "",
            sort=sort,
            limit=limit,
            cursor=cursor,
        )
        page = await services.game_pages.browse(reads, wanted)
        return await games_content(request, services, reads, page, region)

    kept_answers: KeptAnswers = request.app.state.kept_answers
    return await kept_answers.answer(request, reads, make)


@router.get("/games/search", response_model=SearchPage, dependencies=[EVERYBODY])
async def search_games(
    request: Request,
    services: ServicesOf,
    reads: Reads,
    region: ViewRegion,
    q: Annotated[str, Query(max_length=500)] = "",
    category: Filter = None,
    genre: Filter = None,
    tag: Filter = None,
    platform: Filter = None,
    seller_id: UUID | None = None,
    price_min: PriceLimit = None,
    price_max: PriceLimit = None,
    currency: ViewCurrency = None,
    sort: SearchSort = "relevance",
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response:
    """Search the games on sale. The search tolerates typos and missing accents, and takes the last
    word as the beginning of one."""

    async def make(reads: ReadModels) -> tuple[Content, int]:
        query = SearchQuery(
            q=q,
            category=category,
            genre=genre,
            tag=tag,
            platform=platform,
            seller_id=seller_id,
            price_min=price_min,
            price_max=price_max,
            region=region,
            currency=await currency_of(request, reads, region, currency),
            sort=sort,
            limit=limit,
            cursor=cursor,
        )
        return await _search_results(request, services, reads, query)

    if services.search.prefers_another_engine:  # only asking it shows whether it can answer
        return respond(request, *await make(reads))
    kept_answers: KeptAnswers = request.app.state.kept_answers
    return await kept_answers.answer(request, reads, make)


@router.get("/games/suggest", response_model=Page[TitleView], dependencies=[EVERYBODY])
async def suggest_titles(
    services: ServicesOf,
    reads: Reads,
    region: CallerRegion,
    q: Annotated[str, Query(max_length=500)] = "",
    limit: Annotated[int, Query(ge=1, le=50)] = 10,
) -> Response:
    """Suggest titles for what was typed so far."""
    titles = await services.search.suggest(reads, q, limit)
    page = Page[TitleView].model_validate({"items": titles.value})
    position = await show_offers(services, reads, page.items, region)
    return answer(page, position=min(titles.position, position))


@router.get("/games/offers", response_model=Page[Offered])
async def offers_of_games(
    game_id: Annotated[list[UUID], Query(min_length=1, max_length=MAX_LIMIT)],
    services: ServicesOf,
    reads: Reads,
    caller: OptionalCaller,
    region: CallerRegion,
) -> Response:
    """Return prices, availability and images of some games that a list names, such as a cart or
    orders. `game_id` is repeated, once a game. Games that the caller may not see are left out."""
    now = await now_of(services, reads.as_of)
    found = await seen_offers(
        reads, game_id, now, viewer_id=caller.user_id, sees_all=caller.sees_all
    )
    page = Page[Offered](items=[offered(each, region) for each in found.value])
    return answer(page, position=found.position)


@router.get("/games/{game_id}", response_model=DatedGame)
async def get_game(
    game_id: UUID,
    request: Request,
    services: ServicesOf,
    reads: Reads,
    caller: OptionalCaller,
    region: CallerRegion,
) -> Response:
    """Return a game. Only its seller and an ADMIN see a draft, or a game whose seller's account is
    closed.

    The ETag covers the game's version, its price in the caller's region and its availability.
    """

    async def make(reads: ReadModels) -> tuple[Content, int]:
        game, position = await found(
            services, reads, lambda models: games_query.game(models, game_id), GAME.missing
        )
        may_see = caller.audits or caller.may_act_for(game.seller_id)
        if game.status in {"DRAFT", "SUSPENDED"} and not may_see:
            raise GAME.missing()
        view = DatedGame.model_validate(game)
        offer_of(view, view.prices, view.image_ids, region)
        reduced = show_reduction(view, game, region, await now_of(services, reads.as_of))
        stock = await show_stock(services, reads, [view], position)
        tag = etag(game.version, view.model_dump_json(include=OFFERED))
        body = view.model_dump_json().encode()
        headers = {"Vary": "Authorization"}
        until = earliest(stock.until, reduced)
        return Content(body, tag, headers, stock.streams, until), stock.position

    kept_answers: KeptAnswers = request.app.state.kept_answers
    return await kept_answers.answer(request, reads, make, game_id=game_id)


@router.get("/catalog/products/by-seller/{seller_id}", response_model=Page[DatedGame])
async def games_by_seller(
    seller_id: UUID,
    request: Request,
    services: ServicesOf,
    reads: Reads,
    _: SellerOneself,
    region: CallerRegion,
    status: GameStatus | None = None,
    q: Annotated[str, Query(max_length=500, description="A part of the title or SKU.")] = "",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List a seller's games, drafts included (that seller, ADMIN). Errors: 404 `user_not_found`."""
    await check_account_exists(services, seller_id)
    page = await games_query.by_seller(
        reads, seller_id, status=status, text=q.strip(), limit=limit, cursor=cursor
    )
    return respond(request, *await games_content(request, services, reads, page, region))


async def _search_results(
    request: Request, services: Services, reads: ReadModels, query: SearchQuery
) -> tuple[Content, int]:
    """A page of search results, and the position that it reflects."""
    now = await now_of(services, reads.as_of)
    found = await services.search.search(reads, query, now)
    result, position = found.value, found.position
    known = {item.document.game_id: item.offer for item in result.items if item.offer is not None}
    missing = [item.document.game_id for item in result.items if item.offer is None]
    if missing:
        more = await offers(reads, missing, now)
        known, position = known | more.value, min(position, more.position)
    physical = [item.document.game_id for item in result.items if item.document.kind == "PHYSICAL"]
    reduced = {
        game_id: reduction
        for game_id, offer in known.items()
        if (reduction := reduction_in(offer.reductions, query.region, now)) is not None
    }
    until = earliest(
        *(offer.until for offer in known.values()),
        *(reduction.until for reduction in reduced.values()),
    )
    content = list_content(
        request,
        search_page(result, known, reduced),
        result.next_cursor,
        tuple(map(stock_id, physical)),
        until,
    )
    return content, position
