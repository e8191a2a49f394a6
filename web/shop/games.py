"""The home page, the search and a game's own page."""

from urllib.parse import urlencode

from starlette.responses import Response

from web.forms import number
from web.routing import Router
from web.shop.answers import Game, SearchPage, Title
from web.visit import Listed, Problem, Visit

router = Router()

NEWEST = 12
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
    """What is new, and what there is."""
    newest = await visit.api.get("/api/v1/games", Listed[Game], sort="newest", limit=NEWEST)
    found = await visit.api.get("/api/v1/games/search", SearchPage, limit=1)
    return visit.page(
        "shop/home.html", newest=newest.items, genres=found.facets.genre, total=found.total
    )


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
    game_id = visit.request.path_params["game_id"]
    return await game_page(visit, game_id)


async def game_page(visit: Visit, game_id: str, status: int = 200) -> Response:
    """The page of a game, with the form's errors, if there are any."""
    found = await visit.api.get(f"/api/v1/games/{part(game_id)}", Game)
    return visit.page("shop/game.html", status=status, game=found)


def part(text: str) -> str:
    """An id from a URL as a part of a path; what is none is not found."""
    if not text.replace("-", "").isalnum() or not text.isascii():
        raise Problem("not_found", 404)
    return text
