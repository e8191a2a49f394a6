"""A seller's games: the list, new ones, and editing one with its preview."""

from http import HTTPStatus

from starlette.responses import Response

from kit.currencies import EXPONENT
from web.api_client import Listed, Nothing, Problem
from web.countries import COUNTRIES
from web.forms import number
from web.routing import FormLimits
from web.sell.access import desk_router, seller_of
from web.sell.answers import SellersGame
from web.sell.listings import (
    listing_of,
    names,
    new_price_of,
    preview_of,
    prices_of,
    rows_of,
)
from web.visit import Visit

router = desk_router()

PER_PAGE = 20
MAX_SEARCHED = 500
BLANK_ROWS = 2
STATUSES = ("ACTIVE", "DRAFT", "RETIRED")
CURRENCIES = [(code, code) for code in sorted(EXPONENT)]
MAX_FILES, MAX_FILE_BYTES = 8, 5 * 1024 * 1024
"""How many pictures can be sent at once, and the API's limit for each."""
PRICES = FormLimits(text_bytes=256 * 1024, fields=3 * 300 + 3)
"""A game has up to 300 prices."""


@router.get("/sell/games")
async def show_games(visit: Visit) -> Response:
    """The seller's games of a status, or with a text in title or SKU, newest first."""
    wanted = visit.query("status") if visit.query("status") in STATUSES else ""
    found = await visit.api.get(
        f"/api/v1/catalog/products/by-seller/{seller_of(visit)}",
        Listed[SellersGame],
        limit=PER_PAGE,
        status=wanted or None,
        q=(text := visit.query("q")[:MAX_SEARCHED]) or None,
        cursor=visit.query("cursor") or None,
    )
    return visit.page("sell/games.html", fragment="found", found=found, wanted=wanted, text=text)


# -- a new game ------------------------------------------------------------------------------------


@router.get("/sell/games/new")
async def new_game(visit: Visit) -> Response:
    """The form for a new game."""
    return _new_page(visit, SellersGame())


def _new_page(visit: Visit, shown: SellersGame, status: int = 200) -> Response:
    return visit.page(
        "sell/new.html", status=status, fragment="preview", shown=shown, currencies=CURRENCIES
    )


@router.post("/sell/games/preview")
async def preview_new(visit: Visit) -> Response:
    """What buyers would see of a new game."""
    return _new_page(visit, preview_of(SellersGame(), visit.form))


@router.post("/sell/games")
async def create(visit: Visit) -> Response:
    """List a game, as a draft or on sale at once."""
    form = visit.form
    body = {**listing_of(form), **form.body("kind", "status"), "prices": new_price_of(form)}
    if not form.errors:
        try:
            once = form.secret("once")
            made = await visit.api.post("/api/v1/games", body, SellersGame, once=once)
        except Problem as problem:
            form.refuse(problem)
        else:
            return visit.go(f"/sell/games/{made.id}", "It is saved. Now add pictures.")
    return _new_page(visit, preview_of(SellersGame(), form), status=422)


# -- one game --------------------------------------------------------------------------------------


@router.get("/sell/games/{game_id}")
async def show_game(visit: Visit) -> Response:
    """A game: the forms to change it, and what buyers see."""
    return await game_page(visit)


async def game_page(visit: Visit, sent: str = "", status: int = 200) -> Response:
    """The page of a game; the form named `sent` shows its errors, and what was typed."""
    game = await own_game(visit)
    rows = max(rows_of(visit.form) if sent == "prices" else 0, len(game.prices) + BLANK_ROWS)
    is_stale = status == HTTPStatus.PRECONDITION_FAILED
    return visit.page(
        "sell/game.html",
        status=status,
        fragment="pictures" if sent == "pictures" else "preview",
        game=game,
        shown=preview_of(game, visit.form) if sent == "details" else game,
        version=game.version if is_stale else visit.form.shown("version", game.version),
        sent=sent,
        rows=[names(row) for row in range(rows)],
        countries=COUNTRIES,
        currencies=CURRENCIES,
        max_files=MAX_FILES,
        max_file_bytes=MAX_FILE_BYTES,
    )


def path_of(visit: Visit) -> str:
    """The API's path of the game of this page."""
    return f"/api/v1/games/{visit.id('game_id')}"


async def own_game(visit: Visit) -> SellersGame:
    """The game of this page. Raises Problem 404 for others' games."""
    game = await visit.api.get(path_of(visit), _Owned)
    if game.seller_id != seller_of(visit):
        raise Problem("not_found", 404)
    return game


class _Owned(SellersGame, frozen=True, kw_only=True):
    seller_id: str


@router.post("/sell/games/{game_id}/preview")
async def preview(visit: Visit) -> Response:
    """What buyers would see with the changes that were typed."""
    return await game_page(visit, "details")


@router.post("/sell/games/{game_id}")
async def change(visit: Visit) -> Response:
    """Save what was typed about the game."""
    return await _save(visit, "details", listing_of(visit.form), "Your changes are saved.")


@router.post("/sell/games/{game_id}/prices", limits=PRICES)
async def change_prices(visit: Visit) -> Response:
    """Save the prices of all regions."""
    prices = prices_of(visit.form)
    if visit.form.errors:
        return await game_page(visit, "prices", status=422)
    return await _save(visit, "prices", {"prices": prices}, "The prices are saved.")


@router.post("/sell/games/{game_id}/publish")
async def publish(visit: Visit) -> Response:
    """Put a draft on sale."""
    return await _save(visit, "publish", {"status": "ACTIVE"}, "It is on sale.")


async def _save(visit: Visit, sent: str, changes: dict[str, object], notice: str) -> Response:
    """Change the game as it was when the form was shown."""
    try:
        await visit.api.put(
            path_of(visit), changes, Nothing, version=number(visit.form.text("version"))
        )
    except Problem as problem:
        visit.form.refuse(problem)
        is_stale = problem.status == HTTPStatus.PRECONDITION_FAILED
        return await game_page(visit, sent, status=412 if is_stale else 422)
    return visit.go(f"/sell/games/{visit.id('game_id')}", notice)


@router.post("/sell/games/{game_id}/retire")
async def retire(visit: Visit) -> Response:
    """Take the game off sale for good."""
    if visit.form.text("sure") != "yes":
        visit.form.errors["sure"] = "Confirm that you want to take it off sale for good."
        return await game_page(visit, "retire", status=422)
    await visit.api.delete(path_of(visit))
    return visit.go("/sell/games", "It is off sale. Those who bought it keep it.")
