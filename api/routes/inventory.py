"""Stock: how many there are, for its seller; whether there are any, for everybody; holds, for other
systems."""

from collections.abc import Awaitable, Callable
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.answers import ExpectedVersion, answer, page_answer, position_of, versioned
from api.auth import EVERYBODY, Seller, Service, SignedIn, Stockkeeper
from api.fields import Answer, Body, Count, Page, Quantity, Time, Version
from api.idempotency import Idempotency, Idempotent, recorded_id
from api.reading import AsOf, Cursor, Limit, Reads, found
from api.services import Services, ServicesOf
from commands.aggregates import STOCK
from commands.handler import CommandResult
from domain.errors import Forbidden
from domain.ids import stock_id
from domain.inventory import HoldName, Stock
from eventstore.log import IdempotencyKey
from queries import stock as stock_query

router = APIRouter(prefix="/api/v1/inventory", tags=["inventory"])


# -- what goes in ----------------------------------------------------------------------------------


class StockCount(Body):
    """How many there are in all, those included that carts and orders hold. With an
    `expected_version`, only if the stock is still at that version."""

    product_id: UUID
    total_quantity: Count
    expected_version: Version | None = None


class NewReservation(Body):
    """How many to hold softly, for a cart of another system."""

    product_id: UUID
    quantity: Quantity
    cart_id: UUID


class Allocation(Body):
    """Which soft hold is an order's from now on: the one of this id, or the only one that this cart
    has of the product. A `quantity` must be the hold's."""

    product_id: UUID
    order_id: UUID
    reservation_id: UUID | None = None
    cart_id: UUID | None = None
    quantity: Quantity | None = None


class HoldRef(Body):
    """Which hold: the one of this id, or the only one that this cart, or order, has of the product.
    A `quantity` must be the hold's."""

    product_id: UUID
    reservation_id: UUID | None = None
    cart_id: UUID | None = None
    order_id: UUID | None = None
    quantity: Quantity | None = None

    def name(self) -> HoldName:
        """Which hold is meant."""
        return HoldName(self.reservation_id, self.cart_id, self.order_id, self.quantity)


# -- what comes out --------------------------------------------------------------------------------


class StockView(Answer):
    """The stock of a game: available + reserved (by carts) + allocated (to orders) = total."""

    product_id: UUID
    total: int
    available: int
    reserved: int
    allocated: int
    version: int


class SellersStock(StockView):
    """Stock, whose it is and since when."""

    seller_id: UUID
    sku: str
    created_at: Time
    updated_at: Time


class AvailabilityView(Answer):
    """How many can be had now; null of a digital game, of which there is no end."""

    product_id: UUID
    available: int | None
    in_stock: bool


class ReservationView(StockView):
    """A hold, and the stock after what was done to it. `status`: SOFT or HARD, while it lasts until
    `expires_at`, or RELEASED or SOLD."""

    reservation_id: UUID
    status: str
    quantity: int | None
    expires_at: Time | None


# -- commands --------------------------------------------------------------------------------------


@router.put("/stock", response_model=StockView)
async def set_stock(
    body: StockCount, services: ServicesOf, caller: Stockkeeper, expected_version: ExpectedVersion
) -> Response:
    """Say how many there are (the product's seller, ADMIN). 409 `version_conflict`,
    `stock_below_commitments`."""
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
    """Hold some softly (SERVICE, ADMIN). 409 `insufficient_stock` with `available` and
    `product_id`; `game_unavailable` when it is not on sale; `shop_cart` for a cart of this shop,
    which holds what is put into it."""

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
    """Make a soft hold an order's (SERVICE, ADMIN). Refused as a release is, but
    `reservation_in_use` when a cart of this shop has it; also 409 `reservation_expired`,
    `reservation_allocated`; `shop_order`: it is this shop's."""
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
    """Give a hold up (SERVICE, ADMIN). 404 `reservation_not_found`; 409 `several_reservations` with
    `reservation_ids`, `quantity_mismatch` with the hold's `quantity`, `reservation_in_use` when an
    order of this shop has it; 422 `hold_not_named` without id, cart and order."""

    async def command(once: IdempotencyKey | None) -> CommandResult[UUID]:
        return await services.commands.inventory.release(
            caller, body.product_id, body.name(), "released by an operator", once=once
        )

    return await _changed(services, idempotency, body.product_id, command, ended="RELEASED")


@router.post("/confirm-sale", response_model=ReservationView)
async def confirm_sale(
    body: HoldRef, services: ServicesOf, caller: Service, idempotency: Idempotency
) -> Response:
    """What an order holds is sold (SERVICE, ADMIN). Refused as a release is; also 409
    `not_allocated`."""

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
    """Do something about a hold. `ended` is what became of it, if it is gone."""

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


@router.get("/stock", response_model=Page[SellersStock])
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
    """A seller's stock, the newest product first; an ADMIN sees everybody's, or that of one seller.
    `low`: only of products not retired, of which no more are available than the threshold of low
    stock."""
    seller_id = seller_id if caller.is_admin else seller_id or caller.person()
    if seller_id is not None and not caller.may_act_for(seller_id):
        raise Forbidden("not_yours", "that is another seller's stock")
    at_most = services.commands.rules.low_stock if low else None
    page = await stock_query.stocks(
        reads, seller_id=seller_id, at_most=at_most, limit=limit, cursor=cursor
    )
    return page_answer(request, Page[SellersStock].model_validate(page.value), page.position)


@router.get("/stock/{product_id}", response_model=SellersStock)
async def get_stock(
    product_id: UUID,
    request: Request,
    services: ServicesOf,
    reads: Reads,
    caller: SignedIn,
    as_of: AsOf,
) -> Response:
    """The stock of a product (its seller, ADMIN); as it was at a moment, for an AUDITOR or an
    ADMIN."""
    if as_of is not None:
        position = await services.audit.position_at(as_of)
        past = await stock_query.stock_as_of(services.log, product_id, position)
        if past is None:
            raise STOCK.missing()
        return answer(SellersStock.model_validate(past), position=position)
    stock, position = await found(
        services, reads, lambda models: stock_query.stock(models, product_id), STOCK.missing
    )
    if not caller.may_act_for(stock.seller_id):
        raise Forbidden("not_yours", "that is another seller's product")
    return versioned(
        request, SellersStock.model_validate(stock), position=position, version=stock.version
    )


@router.get("/availability/{product_id}", response_model=AvailabilityView, dependencies=[EVERYBODY])
async def get_availability(product_id: UUID, services: ServicesOf, reads: Reads) -> Response:
    """Whether a product can be had now, and how many; of a digital one that is on sale there is no
    end."""
    now = services.clock.now()
    seen, position = await found(
        services,
        reads,
        lambda models: stock_query.availability(models, product_id, now),
        STOCK.missing,
    )
    return answer(AvailabilityView.model_validate(seen), position=position)
