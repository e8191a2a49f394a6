"""A game on offer: what it is, who sells it, and what it costs in which region.

Only its seller or an ADMIN edits it. It goes DRAFT → ACTIVE → RETIRED and never back; only an ACTIVE game with a price
for the buyer's region can be bought. While its seller's account is closed, an ACTIVE game is SUSPENDED. A SKU is unique
per seller (a claim sees to that).
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any, Literal, get_args
from uuid import UUID

import msgspec

from domain.errors import Conflict, Forbidden, Invalid
from domain.events import Event, event
from domain.money import check_amount
from domain.regions import ANY_REGION, check_price_region
from domain.text import check_text, check_texts, comparison_key, trimmed
from domain.times import FIRST_DAY, LAST_DAY

Kind = Literal["DIGITAL", "PHYSICAL"]
InitialStatus = Literal["DRAFT", "ACTIVE"]
Status = Literal["DRAFT", "ACTIVE", "SUSPENDED", "RETIRED"]

MAX_TITLE, MAX_SKU, MAX_LINE, MAX_WORD, MAX_DESCRIPTION = 300, 64, 300, 64, 20_000
MAX_WORDS = 50
"""Genres, tags or platforms of one game."""


class Price(msgspec.Struct, frozen=True):
    """What a game costs in a region; region `*` is the price of all regions that have none of their own."""

    region: str
    amount_cents: int
    currency: str


# -- events ------------------------------------------------------------------------------------------------------------


@event("game.created.v1")
class GameCreated(Event, frozen=True):
    """A game created with status ACTIVE is published by this: no `game.published.v1` follows."""

    seller_id: UUID
    sku: str
    title: str
    description: str
    publisher: str
    category: str
    genres: tuple[str, ...]
    tags: tuple[str, ...]
    platforms: tuple[str, ...]
    kind: Kind
    prices: tuple[Price, ...]
    image_ids: tuple[UUID, ...]
    status: InitialStatus
    release_date: date | None = None


@event("game.updated.v1")
class GameUpdated(Event, frozen=True):
    """Only what changed. Seller and kind never do; the status has events of its own."""

    sku: str | None = None
    title: str | None = None
    description: str | None = None
    publisher: str | None = None
    category: str | None = None
    genres: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    platforms: tuple[str, ...] | None = None
    release_date: date | None = None
    prices: tuple[Price, ...] | None = None
    image_ids: tuple[UUID, ...] | None = None


@event("game.published.v1")
class GamePublished(Event, frozen=True):
    """A draft went on sale."""


@event("game.retired.v1")
class GameRetired(Event, frozen=True):
    """It is off sale for good."""


@event("game.suspended.v1")
class GameSuspended(Event, frozen=True):
    """It is off sale for as long as its seller's account is closed."""


@event("game.resumed.v1")
class GameResumed(Event, frozen=True):
    """It is on sale again, as its seller's account is open again."""


# -- state -------------------------------------------------------------------------------------------------------------


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What a seller says of a game: all that can be edited, and its kind, which cannot."""

    sku: str
    title: str
    kind: Kind
    description: str = ""
    publisher: str = ""
    category: str = ""
    genres: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    release_date: date | None = None
    prices: tuple[Price, ...] = ()
    image_ids: tuple[UUID, ...] = ()


class Game(msgspec.Struct, frozen=True):
    """A game as it stands."""

    seller_id: UUID
    listing: Listing
    status: Status


def evolve(state: Game | None, event: Event) -> Game | None:
    """The game after one more event."""
    match state, event:
        case _, GameCreated():
            listing = Listing(**{field: getattr(event, field) for field in Listing.__struct_fields__})
            return Game(event.seller_id, listing, event.status)
        case Game(), GameUpdated():
            return msgspec.structs.replace(state, listing=msgspec.structs.replace(state.listing, **changes(event)))
        case Game(), GamePublished() | GameResumed():
            return msgspec.structs.replace(state, status="ACTIVE")
        case Game(), GameSuspended():
            return msgspec.structs.replace(state, status="SUSPENDED")
        case Game(), GameRetired():
            return msgspec.structs.replace(state, status="RETIRED")
    return state


def changes(event: GameUpdated) -> dict[str, object]:
    """The fields that an update changed, with their new values."""
    return {field: value for field, value in msgspec.structs.asdict(event).items() if value is not None}


# -- rules -------------------------------------------------------------------------------------------------------------


def check_listing(listing: Listing, before: Listing | None = None) -> None:
    """Look at what differs from the listing `before`: what an older rule let in may stay while the rest is edited.

    Raises Invalid: `invalid_` and the field's name, or what `check_prices` raises.
    """
    for field, check in _CHECKS.items():
        value = getattr(listing, field)
        if before is None or value != getattr(before, field):
            check(value)


def _check_kind(kind: str) -> None:
    if kind not in get_args(Kind):
        raise Invalid("invalid_kind", "a game is DIGITAL or PHYSICAL")


def check_release(day: date | None) -> None:
    """Raises Invalid("invalid_release_date") for a day on which no game is released."""
    if day is not None and not FIRST_DAY <= day <= LAST_DAY:
        raise Invalid("invalid_release_date", f"a game is released between {FIRST_DAY} and {LAST_DAY}")


def check_prices(prices: Sequence[Price]) -> None:
    """Raises Invalid: invalid_region, invalid_amount, invalid_currency, duplicate_price (two for one region)."""
    for price in prices:
        check_price_region(price.region)
        check_amount(price.amount_cents, price.currency)
    if len({price.region for price in prices}) < len(prices):
        raise Invalid("duplicate_price", "a game has one price per region")


_CHECKS: Mapping[str, Callable[[Any], None]] = {
    "title": lambda title: check_text("title", title, MAX_TITLE),
    "sku": lambda sku: check_text("sku", sku, MAX_SKU),
    "kind": _check_kind,
    "release_date": check_release,
    "description": lambda text: check_text("description", text, MAX_DESCRIPTION, optional=True),
    "publisher": lambda name: check_text("publisher", name, MAX_LINE, optional=True),
    "category": lambda name: check_text("category", name, MAX_LINE, optional=True),
    "genres": lambda genres: check_texts("genres", genres, MAX_WORD, MAX_WORDS),
    "tags": lambda tags: check_texts("tags", tags, MAX_WORD, MAX_WORDS),
    "platforms": lambda platforms: check_texts("platforms", platforms, MAX_WORD, MAX_WORDS),
    "prices": check_prices,
}


def sku_key(sku: str) -> str:
    """Equal for SKUs that a seller takes for the same on a label or in a spreadsheet: case, width, blanks and what
    is shown as nothing do not count. Upper case, as most SKUs are, so that the key is mostly the SKU itself."""
    return comparison_key(sku).upper()


def price_for(game: Game, region: str) -> Price | None:
    """The region's own price, or else the fallback; None when the game is not sold there."""
    by_region = {price.region: price for price in game.listing.prices}
    return by_region.get(region) or by_region.get(ANY_REGION)


def offer(game: Game, region: str) -> Price:
    """What a buyer from the region pays now. Raises Conflict("game_unavailable") when they cannot buy it."""
    price = price_for(game, region)
    if game.status != "ACTIVE" or price is None:
        raise Conflict("game_unavailable", "the game is not on sale here")
    return price


# -- decisions ---------------------------------------------------------------------------------------------------------


def create(seller_id: UUID, listing: Listing, status: InitialStatus = "DRAFT") -> list[Event]:
    """List a game, as a draft or on sale at once; blanks around its SKU are dropped.

    Raises Invalid: invalid_status, price_required, and as `check_listing`.
    """
    listing = _with_trimmed_sku(listing)
    check_listing(listing)
    if status not in get_args(InitialStatus):
        raise Invalid("invalid_status", "a new game is DRAFT or ACTIVE")
    if status == "ACTIVE":
        _must_have_price(listing)
    return [GameCreated(seller_id=seller_id, status=status, **msgspec.structs.asdict(listing))]


def update(
    game: Game, wanted: Listing, *, by: UUID, is_admin: bool = False, status: InitialStatus | None = None
) -> list[Event]:
    """Make the listing as wanted, and publish a draft when `status` is ACTIVE. Nothing differs: nothing happens.

    A release date can be moved, not removed. Raises Forbidden("not_owner"); Conflict("game_retired"),
    Conflict("game_published") on going back to DRAFT; Invalid: kind_fixed, price_required, and as `check_listing`.
    """
    _must_own(game, by, is_admin)
    if game.status == "RETIRED":
        raise Conflict("game_retired", "a retired game cannot be edited")
    if wanted.kind != game.listing.kind:
        raise Invalid("kind_fixed", "a game stays DIGITAL or PHYSICAL: list another one")
    if status == "DRAFT" and game.status != "DRAFT":
        raise Conflict("game_published", "a published game cannot become a draft: retire it")
    wanted = _with_trimmed_sku(wanted)
    check_listing(wanted, game.listing)
    publishes = status == "ACTIVE" and game.status == "DRAFT"
    if publishes or (game.status == "ACTIVE" and wanted.prices != game.listing.prices):
        _must_have_price(wanted)
    differing = {
        field: value
        for field, value in msgspec.structs.asdict(wanted).items()
        if value is not None and value != getattr(game.listing, field)
    }
    events: list[Event] = [GameUpdated(**differing)] if differing else []
    if publishes:
        events.append(GamePublished())
    return events


def retire(game: Game, *, by: UUID, is_admin: bool = False) -> list[Event]:
    """Take it off sale for good; who owns it keeps it. Raises Forbidden("not_owner")."""
    _must_own(game, by, is_admin)
    return [] if game.status == "RETIRED" else [GameRetired()]


def _with_trimmed_sku(listing: Listing) -> Listing:
    return msgspec.structs.replace(listing, sku=trimmed(listing.sku))


def _must_have_price(listing: Listing) -> None:
    if not listing.prices:
        raise Invalid("price_required", "a game on sale has a price: for a region, or for all (`*`)")


def follow_seller(game: Game, *, seller_is_open: bool) -> list[Event]:
    """What is on sale goes off sale while its seller's account is closed, and comes back with it."""
    if game.status == "ACTIVE" and not seller_is_open:
        return [GameSuspended()]
    return [GameResumed()] if game.status == "SUSPENDED" and seller_is_open else []


def _must_own(game: Game, by: UUID, is_admin: bool) -> None:
    if by != game.seller_id and not is_admin:
        raise Forbidden("not_owner", "only its seller or an ADMIN may do this")
