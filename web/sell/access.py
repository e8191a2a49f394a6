"""Who has a seller's desk."""

from web.routing import Router
from web.visit import Visit


def desk_router() -> Router:
    """A router of pages for sellers; others read how to become one."""
    return Router(("SELLER",), "sell/become.html")


def seller_of(visit: Visit) -> str:
    """The id of the seller whose desk it is."""
    assert visit.user is not None
    return visit.user.id
