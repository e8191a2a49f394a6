"""A game on offer: its listing, its seller, and its price per region.

Only the seller or an ADMIN edits it. Its status goes DRAFT → ACTIVE → RETIRED and never back; only
an ACTIVE game with a price for the buyer's region can be bought. An ACTIVE game is SUSPENDED while
its seller's account is closed. A SKU is unique per seller (by a claim).
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
"""Most genres, tags or platforms of one game."""


class Price(msgspec.Struct, frozen=True):
    """The price of a game in a region; region `*` is the fallback for regions without a price of
    their own."""

    region: str
    amount_cents: int
    currency: str


# -- events ----------------------------------------------------------------------------------------


@event("game.created.v1")
class GameCreated(Event, frozen=True):
    """The seller listed a game, as DRAFT or ACTIVE. A game created as ACTIVE is thereby published:
    no `game.published.v1` follows."""

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
    """The listing was edited; only changed fields are present. Seller and kind never change, and
    the status has events of its own."""

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
    """The draft went on sale."""


@event("game.retired.v1")
class GameRetired(Event, frozen=True):
    """The game was taken off sale for good."""


@event("game.suspended.v1")
class GameSuspended(Event, frozen=True):
    """The game was taken off sale because its seller's account was closed."""


@event("game.resumed.v1")
class GameResumed(Event, frozen=True):
    """The game went back on sale because its seller's account was reopened."""


# -- state -----------------------------------------------------------------------------------------


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a seller says about a game: the editable fields, and the kind, which is fixed."""

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
    seller_id: UUID
    listing: Listing
    status: Status


def evolve(state: Game | None, event: Event) -> Game | None:
    match state, event:
        case _, GameCreated():
            listing = Listing(
                **{field: getattr(event, field) for field in Listing.__struct_fields__}
            )
            return Game(event.seller_id, listing, event.status)
        case Game(), GameUpdated():
            return msgspec.structs.replace(
                state, listing=msgspec.structs.replace(state.listing, **changes(event))
            )
        case Game(), GamePublished() | GameResumed():
            return msgspec.structs.replace(state, status="ACTIVE")
        case Game(), GameSuspended():
            return msgspec.structs.replace(state, status="SUSPENDED")
        case Game(), GameRetired():
            return msgspec.structs.replace(state, status="RETIRED")
    return state


def changes(event: GameUpdated) -> dict[str, object]:
    """The changed fields of an update, with their new values."""
    return {
        field: value for field, value in msgspec.structs.asdict(event).items() if value is not None
    }


# -- rules -----------------------------------------------------------------------------------------


def check_listing(listing: Listing, before: Listing | None = None) -> None:
    """Check every field that differs from `before`: a value that an older rule allowed may stay
    while others are edited.

    Raises Invalid: `invalid_` and the field's name, or as `check_prices`.
    """
    for field, check in _CHECKS.items():
        value = getattr(listing, field)
        if before is None or value != getattr(before, field):
            check(value)


def _check_kind(kind: str) -> None:
    if kind not in get_args(Kind):
        raise Invalid("invalid_kind", "the kind of a game is DIGITAL or PHYSICAL")


def check_release(day: date | None) -> None:
    """Raises Invalid("invalid_release_date") unless the day lies between FIRST_DAY and LAST_DAY."""
    if day is not None and not FIRST_DAY <= day <= LAST_DAY:
        raise Invalid(
            "invalid_release_date", f"the release date lies between {FIRST_DAY} and {LAST_DAY}"
        )


def check_prices(prices: Sequence[Price]) -> None:
    """Raises Invalid: invalid_region, invalid_amount, invalid_currency, duplicate_price (two prices
    for one region)."""
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
    """A key that is equal for SKUs a seller would take for the same: it ignores case, width, blanks
    and invisible characters. It is upper case, as most SKUs are, and so mostly the SKU itself."""
    return comparison_key(sku).upper()


def price_for(game: Game, region: str) -> Price | None:
    """The region's own price, else the fallback; None when the game is not sold there."""
    by_region = {price.region: price for price in game.listing.prices}
    return by_region.get(region) or by_region.get(ANY_REGION)


def offer(game: Game, region: str) -> Price:
    """The price for a buyer in the region. Raises Conflict("game_unavailable") when the game is not
    on sale there."""
    price = price_for(game, region)
    if game.status != "ACTIVE" or price is None:
        raise Conflict("game_unavailable", "the game is not on sale here")
    return price


# -- decisions -------------------------------------------------------------------------------------


def create(seller_id: UUID, listing: Listing, status: InitialStatus = "DRAFT") -> list[Event]:
    """List a game, as a draft or directly on sale. Blanks around its SKU are dropped.

    Raises Invalid: invalid_status, price_required, and as `check_listing`.
    """
    listing = _with_trimmed_sku(listing)
    check_listing(listing)
    if status not in get_args(InitialStatus):
        raise Invalid("invalid_status", "the status of a new game is DRAFT or ACTIVE")
    if status == "ACTIVE":
        _must_have_price(listing)
    return [GameCreated(seller_id=seller_id, status=status, **msgspec.structs.asdict(listing))]


def update(
    game: Game,
    wanted: Listing,
    *,
    by: UUID,
    is_admin: bool = False,
    status: InitialStatus | None = None,
) -> list[Event]:
    """Change the listing to `wanted`, and publish a draft when `status` is ACTIVE. Returns only
    actual changes.

    A release date can be moved, not removed. Raises Forbidden("not_owner");
    Conflict("game_retired"), Conflict("game_published") when `status` is DRAFT and the game is not;
    Invalid: kind_fixed, price_required, and as `check_listing`.
    """
    _must_own(game, by, is_admin)
    if game.status == "RETIRED":
        raise Conflict("game_retired", "a retired game cannot be edited")
    if wanted.kind != game.listing.kind:
        raise Invalid("kind_fixed", "the kind of a game cannot change: list another game")
    if status == "DRAFT" and game.status != "DRAFT":
        raise Conflict("game_published", "a published game cannot become a draft again: retire it")
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
    """Take the game off sale for good; its owners keep it. Idempotent. Raises
    Forbidden("not_owner")."""
    _must_own(game, by, is_admin)
    return [] if game.status == "RETIRED" else [GameRetired()]


def _with_trimmed_sku(listing: Listing) -> Listing:
    return msgspec.structs.replace(listing, sku=trimmed(listing.sku))


def _must_have_price(listing: Listing) -> None:
    if not listing.prices:
        raise Invalid(
            "price_required", "a game on sale needs a price, for a region or for all (`*`)"
        )


def follow_seller(game: Game, *, seller_is_open: bool) -> list[Event]:
    """Suspend an ACTIVE game when its seller's account is closed; resume a SUSPENDED one when the
    account is reopened."""
    if game.status == "ACTIVE" and not seller_is_open:
        return [GameSuspended()]
    return [GameResumed()] if game.status == "SUSPENDED" and seller_is_open else []


def _must_own(game: Game, by: UUID, is_admin: bool) -> None:
    if by != game.seller_id and not is_admin:
        raise Forbidden("not_owner", "only the game's seller or an ADMIN may do this")
