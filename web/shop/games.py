"""The home page, the search and a game's own page."""

import asyncio
from urllib.parse import urlencode

from starlette.responses import Response

from web.api_client import Listed, Problem
from web.forms import number
from web.routing import Router
from web.shop.answers import Game, OwnedGame, SearchPage, Title
from web.visit import Visit

router = Router()

NEWEST, ROW = 12, 12
"""How many games are shown as the newest, and in a row that scrolls sideways."""
PER_PAGE = 24
SUGGESTIONS = 8
FACET_VALUES = 12
FILTERS = ("genre", "tag", "platform", "category", "seller_id", "price_min", "price_max")
SORTS = (
    ("relevance", "Best match"),
    ("price", "Cheapest"),
    ("-price", "Dearest"),
    ("release_date", "Newest release"),
    ("title", "Title"),
)


@router.get("/")
async def home(visit: Visit) -> Response:
    """What sells best, what is reduced, what is new, and what there is."""
    newest, best, reduced, found = await asyncio.gather(
        visit.api.get("/api/v1/games", Listed[Game], sort="newest", limit=NEWEST),
        _window(visit, "best-selling"),
        _window(visit, "reduced"),
        visit.api.get("/api/v1/games/search", SearchPage, limit=1),
    )
    return visit.page(
        "shop/home.html",
        newest=newest.items,
        best_selling=best,
        reduced=reduced,
        genres=found.facets.genre,
        total=found.total,
    )


async def _window(visit: Visit, name: str) -> list[Game]:
    """A row of games on the home page. It is empty while its read model is rebuilt, so that the
    rest of the page can be shown."""
    try:
        found = await visit.api.get(f"/api/v1/games/{name}", Listed[Game], limit=ROW)
    except Problem as problem:
        if problem.status != 503:
            raise
        return []
    return found.items


@router.get("/best-selling")
async def best_selling(visit: Visit) -> Response:
    """The games that sell best."""
    return await _list(visit, "best-selling", "Best-selling", "Nothing has been sold yet.")


@router.get("/reduced")
async def reduced(visit: Visit) -> Response:
    """The games that cost less than before."""
    return await _list(visit, "reduced", "Reduced", "Nothing is reduced in your region now.")


async def _list(visit: Visit, name: str, title: str, empty: str) -> Response:
    found = await visit.api.get(
        f"/api/v1/games/{name}",
        Listed[Game],
        limit=PER_PAGE,
        cursor=visit.query("cursor") or None,
    )
    return visit.page("shop/list.html", name=name, title=title, found=found, empty=empty)


@router.get("/search")
async def search(visit: Visit) -> Response:
    """Games that match what was typed and chosen."""
    asked = {name: visit.query(name) for name in ("q", *FILTERS, "sort", "cursor")}
    chosen = {name: text for name, text in asked.items() if text and name != "cursor"}
    limits = {"price_min", "price_max"}
    query = {name: number(text) if name in limits else text for name, text in asked.items() if text}
    try:
        found = await visit.api.get("/api/v1/games/search", SearchPage, limit=PER_PAGE, **query)
    except Problem as problem:
        if problem.status not in {400, 422}:
            raise
        return visit.go("/search", "This search could not be understood.")

    def url(**changes: str | int | None) -> str:
        """This search with some parameters changed; None takes one out."""
        wanted = {name: value for name, value in {**chosen, **changes}.items() if value is not None}
        return f"/search?{urlencode(wanted)}" if wanted else "/search"

    return visit.page(
        "shop/search.html",
        fragment="results",
        found=found,
        chosen=chosen,
        sorts=SORTS,
        url=url,
        facet_values=FACET_VALUES,
        currency=next((each.price.currency for each in found.items if each.price), None),
    )


@router.get("/search/suggest")
async def suggest(visit: Visit) -> Response:
    """Titles for what was typed so far."""
    typed = visit.query("q")
    titles: list[Title] = []
    if typed:
        path = "/api/v1/games/suggest"
        found = await visit.api.get(path, Listed[Title], q=typed[:500], limit=SUGGESTIONS)
        titles = found.items
    return visit.page("shop/suggest.html", fragment="titles", titles=titles)


@router.get("/games/{game_id}")
async def game(visit: Visit) -> Response:
    """A game: what it is, what it costs, and the button to buy it."""
    return await game_page(visit, visit.id("game_id"))


async def game_page(visit: Visit, game_id: str, status: int = 200) -> Response:
    """The page of a game, with the form's errors, if there are any."""
    found = await visit.api.get(f"/api/v1/games/{game_id}", Game)
    owned, alike = await asyncio.gather(_owned(visit, found), _alike(visit, found))
    return visit.page("shop/game.html", status=status, game=found, owned=owned, alike=alike)


async def _owned(visit: Visit, game: Game) -> OwnedGame | None:
    """The game in the visitor's library, None if it is not there. If the library does not answer,
    the game is offered: the API sells nobody the same game twice."""
    if visit.user is None or game.kind == "PHYSICAL":
        return None
    try:
        found = await visit.api.get("/api/v1/library", Listed[OwnedGame], game_id=game.id)
    except Problem as problem:
        if problem.status != 503:
            raise
        return None
    return found.items[0] if found.items else None


async def _alike(visit: Visit, game: Game) -> list[Game]:
    """Other games of the game's first genre."""
    if not game.genres:
        return []
    same_genre = await visit.api.get(
        "/api/v1/games", Listed[Game], genre=game.genres[0], limit=ROW + 1
    )
    return [each for each in same_genre.items if each.id != game.id][:ROW]
