"""Stock levels for sellers, availability for everybody, and reservations for other systems."""

from collections.abc import Awaitable, Callable
from functools import partial
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.answers import ExpectedVersion, answer, page_answer, position_of, versioned
from api.auth import EVERYBODY, Seller, Service, SignedIn, Stockkeeper
from api.fields import Answer, Body, Count, Page, Quantity, Time, Version
from api.idempotency import Idempotency, Idempotent, recorded_id
from api.reading import Cursor, Limit, Reads, found, now_of
from api.services import Services, ServicesOf
from commands.aggregates import STOCK
from commands.handler import CommandResult
from domain.ids import stock_id
from domain.inventory import Stock
from domain.reservations import HoldName
from eventstore.log import IdempotencyKey
from queries.catalog import stock as stock_query

router = APIRouter(prefix="/api/v1/inventory", tags=["inventory"])


# -- request bodies --------------------------------------------------------------------------------


class StockCount(Body):
    """The total number of units, including those that carts and orders hold. With
    `expected_version`, it is set only if the stock still has that version."""

    product_id: UUID
    total_quantity: Count
    expected_version: Version | None = None


class NewReservation(Body):
    """Units to reserve (a soft hold) for a cart of another system."""

    product_id: UUID
    quantity: Quantity
    cart_id: UUID


class Allocation(Body):
    """The reservation that an order takes over: named by its id, or as the only one that the cart
    has of the product. A `quantity` must match the reservation's."""

    product_id: UUID
    order_id: UUID
    reservation_id: UUID | None = None
    cart_id: UUID | None = None
    quantity: Quantity | None = None


class HoldRef(Body):
    """A reservation or allocation: named by its id, or as the only one that the cart or order has
    of the product. A `quantity` must match the hold's."""

    product_id: UUID
    reservation_id: UUID | None = None
    cart_id: UUID | None = None
    order_id: UUID | None = None
    quantity: Quantity | None = None

    def name(self) -> HoldName:
        """The name by which the domain finds the hold."""
        return HoldName(self.reservation_id, self.cart_id, self.order_id, self.quantity)


# -- answers ---------------------------------------------------------------------------------------


class StockView(Answer):
    """The stock of a game: `available` + `reserved` (by carts) + `allocated` (to orders) =
    `total`."""

    product_id: UUID
    total: int
    available: int
    reserved: int
    allocated: int
    version: int


class SellersStock(StockView):
    """The stock of a game, with its seller and dates."""

    seller_id: UUID
    sku: str
    created_at: Time
    updated_at: Time


class ListedStock(SellersStock):
    """The stock of a game in a list, with the game's title and status. It is `low` at or below the
    low-stock threshold, unless the game is retired."""

    title: str
    status: str
    low: bool = False


class AvailabilityView(Answer):
    """How many units can be bought now; null for a digital game, which does not run out."""

    product_id: UUID
    available: int | None
    in_stock: bool


class ReservationView(StockView):
    """A hold and the stock, after the request. `status` is SOFT (reserved) or HARD (allocated)
    until `expires_at`, else RELEASED or SOLD."""

    reservation_id: UUID
    status: str
    quantity: int | None
    expires_at: Time | None


# -- commands --------------------------------------------------------------------------------------


@router.put("/stock", response_model=StockView)
async def set_stock(
    body: StockCount, services: ServicesOf, caller: Stockkeeper, expected_version: ExpectedVersion
) -> Response:
    """Set the number of units in stock (the product's seller, ADMIN). Errors: 409
    `version_conflict`, `stock_below_commitments`."""
    result = await services.commands.inventory.set_total(
        caller,
        body.product_id,
        body.total_quantity,
        body.expected_version,
        expected_version=expected_version,
    )
    now = result.value
    view = _stock(body.product_id, now.stock, now.version)
    return answer(view, position=await position_of(result, services), version=now.version)


@router.post("/reserve", status_code=201, response_model=ReservationView)
async def reserve(
    body: NewReservation, services: ServicesOf, caller: Service, idempotency: Idempotency
) -> Response:
    """Reserve units of a product. Requires SERVICE or ADMIN. Errors: 409 `insufficient_stock` with
    `available` and `product_id`; `game_unavailable` if the game is not on sale; `shop_cart` for a
    cart of this shop, which reserves its items itself."""

    async def command(once: IdempotencyKey | None) -> CommandResult[UUID]:
        return await services.commands.inventory.reserve(
            caller, body.product_id, body.quantity, body.cart_id, once=once
        )

    return await _changed(
        services, idempotency, body.product_id, command, ended="RELEASED", status=201
    )


@router.post("/allocate", response_model=ReservationView)
async def allocate(
    body: Allocation, services: ServicesOf, caller: Service, idempotency: Idempotency
) -> Response:
    """Allocate a reservation to an order. Requires SERVICE or ADMIN. Errors: those of a release,
    but `reservation_in_use` if a cart of this shop holds it; 409 `reservation_expired`,
    `reservation_allocated`; `shop_order` for an order of this shop."""
    hold = HoldName(body.reservation_id, body.cart_id, quantity=body.quantity)

    async def command(once: IdempotencyKey | None) -> CommandResult[UUID]:
        return await services.commands.inventory.allocate(
            caller, body.product_id, hold, body.order_id, once=once
        )

    return await _changed(services, idempotency, body.product_id, command, ended="RELEASED")


@router.post("/release", response_model=ReservationView)
async def release(
    body: HoldRef, services: ServicesOf, caller: Service, idempotency: Idempotency
) -> Response:
    """Release a reservation or allocation. Requires SERVICE or ADMIN. Errors: 404
    `reservation_not_found`; 409 `several_reservations` with `reservation_ids`; `quantity_mismatch`
    with the hold's `quantity`; `reservation_in_use` if an order of this shop holds it; 422
    `hold_not_named` without an id, cart or order."""

    async def command(once: IdempotencyKey | None) -> CommandResult[UUID]:
        return await services.commands.inventory.release(
            caller, body.product_id, body.name(), "released by an operator", once=once
        )

    return await _changed(services, idempotency, body.product_id, command, ended="RELEASED")


@router.post("/confirm-sale", response_model=ReservationView)
async def confirm_sale(
    body: HoldRef, services: ServicesOf, caller: Service, idempotency: Idempotency
) -> Response:
    """Confirm that allocated units were sold. Requires SERVICE or ADMIN. Errors: those of a
    release; 409 `not_allocated`."""

    async def command(once: IdempotencyKey | None) -> CommandResult[UUID]:
        return await services.commands.inventory.confirm_sale(
            caller, body.product_id, body.name(), once=once
        )

    return await _changed(services, idempotency, body.product_id, command, ended="SOLD")


async def _changed(
    services: Services,
    idempotency: Idempotent,
    product_id: UUID,
    command: Callable[[IdempotencyKey | None], Awaitable[CommandResult[UUID]]],
    *,
    ended: str,
    status: int = 200,
) -> Response:
    """Run a command on a hold. `ended` is the hold's status if it no longer exists afterwards."""

    async def reply(result: CommandResult[UUID]) -> Response:
        version, stock = await services.repository.get_versioned(STOCK, stock_id(product_id))
        held = stock.reservations.get(result.value)
        view = ReservationView(
            reservation_id=result.value,
            status=ended if held is None else held.kind,
            quantity=None if held is None else held.quantity,
            expires_at=None if held is None else held.expires_at,
            **_stock(product_id, stock, version).model_dump(),
        )
        return answer(
            view, status=status, position=await position_of(result, services), version=version
        )

    return await idempotency.answer(command, recorded_id("reservation_id"), reply)


def _stock(product_id: UUID, stock: Stock, version: int) -> StockView:
    return StockView(
        product_id=product_id,
        total=stock.total,
        available=stock.available,
        reserved=stock.reserved,
        allocated=stock.allocated,
        version=version,
    )


# -- queries ---------------------------------------------------------------------------------------


@router.get("/stock", response_model=Page[ListedStock])
async def list_stock(
    request: Request,
    services: ServicesOf,
    reads: Reads,
    caller: Seller,
    low: bool = False,
    seller_id: UUID | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List a seller's stock, newest product first. An ADMIN sees everybody's, or one seller's.

    With `low`, only products are listed that are not retired and have no more units available than
    the low-stock threshold.
    """
    seller_id = seller_id if caller.sees_all else seller_id or caller.person()
    if seller_id is not None:
        caller.must_act_for(seller_id, "stock")
    few = services.commands.rules.low_stock
    page = await stock_query.stocks(
        reads, seller_id=seller_id, at_most=few if low else None, limit=limit, cursor=cursor
    )
    view = Page[ListedStock].model_validate(page.value)
    for item in view.items:
        item.low = item.available <= few and item.status != "RETIRED"
    return page_answer(request, view, page.position)


@router.get("/stock/{product_id}", response_model=SellersStock)
async def get_stock(
    product_id: UUID,
    request: Request,
    services: ServicesOf,
    reads: Reads,
    caller: SignedIn,
) -> Response:
    """Return the stock of a product (its seller, ADMIN). With `as_of`, an AUDITOR or ADMIN sees it
    at a past moment."""
    stock, position = await found(
        services,
        reads,
        lambda models: stock_query.stock(models, product_id),
        STOCK.missing,
        partial(stock_query.stock_as_of, services.log, product_id),
    )
    caller.must_act_for(stock.seller_id, "product")
    return versioned(
        request, SellersStock.model_validate(stock), position=position, version=stock.version
    )


@router.get("/availability/{product_id}", response_model=AvailabilityView, dependencies=[EVERYBODY])
async def get_availability(product_id: UUID, services: ServicesOf, reads: Reads) -> Response:
    """Return whether a product can be bought now, and how many units. A digital game on sale does
    not run out."""
    now = await now_of(services, reads.as_of)
    seen, position = await found(
        services,
        reads,
        lambda models: stock_query.availability(models, product_id, now),
        STOCK.missing,
    )
    return answer(AvailabilityView.model_validate(seen), position=position)
