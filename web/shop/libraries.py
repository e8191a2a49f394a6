"""The games that the visitor owns."""

from starlette.responses import Response

from web.api_client import Listed
from web.routing import Router
from web.shop.answers import OwnedGame
from web.visit import Visit

router = Router()

PER_PAGE = 24


@router.get("/library", signed_in=True)
async def show_library(visit: Visit) -> Response:
    """The games, last bought first, or those that match what was typed."""
    found = await visit.api.get(
        "/api/v1/library",
        Listed[OwnedGame],
        q=visit.query("q")[:500],
        limit=PER_PAGE,
        cursor=visit.query("cursor") or None,
    )
    return visit.page("shop/library.html", fragment="games", found=found, q=visit.query("q"))
