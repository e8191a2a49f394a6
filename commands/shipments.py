"""Commands on shipments: their seller processes and ships them, and the carrier's notice delivers
them. Their order follows in the same append.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec

from commands.aggregates import ORDER, SHIPMENT
from commands.caller import Caller
from commands.handler import CommandHandler, CommandResult
from commands.kept_notices import handle_notice, keep_notice
from commands.ports.signatures import CarrierSignatures
from domain import fulfilment, orders
from domain.errors import Conflict, Invalid
from domain.events import Event
from domain.fulfilment import Shipment
from domain.notices import SignedBody
from domain.orders import Order
from eventstore.log import IdempotencyKey
from eventstore.unit_of_work import UnitOfWork
from kit.json_errors import JSON_ERRORS


class DeliveryNotice(msgspec.Struct, frozen=True):
    """A carrier's notice that it delivered a parcel; just now, if it gives no time. The signature
    covers only the body, so the body has to name the parcel: else anybody could send the notice
    for another one."""

    delivered_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    shipment_id: UUID | None = None
    tracking_number: Annotated[str, msgspec.Meta(max_length=64)] | None = None


class ShipmentCommands:
    def __init__(self, handler: CommandHandler, signatures: CarrierSignatures) -> None:
        self._handler = handler
        self._signatures = signatures

    async def process(
        self,
        caller: Caller,
        shipment_id: UUID,
        *,
        expected_version: int | None = None,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[None]:
        """Begin to prepare a shipment (its seller, ADMIN).

        Raises NotFound; Forbidden("not_yours"); Stale; Conflict: shipment_provisional,
        shipment_not_pending.
        """
        return await self._change(caller, shipment_id, fulfilment.process, expected_version, once)

    async def ship(
        self,
        caller: Caller,
        shipment_id: UUID,
        carrier: str,
        tracking_number: str,
        *,
        expected_version: int | None = None,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[None]:
        """Hand a shipment over to a carrier (its seller, ADMIN).

        Raises NotFound; Forbidden("not_yours"); Stale; Conflict: shipment_provisional,
        shipment_not_processing; Invalid("invalid_tracking").
        """

        def decide(shipment: Shipment, now: datetime) -> list[Event]:
            return fulfilment.ship(shipment, carrier, tracking_number, now)

        return await self._change(caller, shipment_id, decide, expected_version, once)

    async def receive_notice(
        self, caller: Caller, shipment_id: UUID, body: bytes, signature: str
    ) -> CommandResult[None]:
        """Mark a shipment as delivered by a carrier's signed notice. Idempotent.

        Raises InvalidSignature; Invalid: malformed_notice, parcel_not_named (it names neither
        shipment nor tracking number), invalid_delivered_at (in the future, or before it was
        shipped); NotFound("shipment_not_found"); Conflict: shipment_not_shipped, wrong_shipment (it
        names another one).
        """
        now = self._handler.now()
        self._signatures.check(body, signature, now)
        notice = _read(body)
        if notice.delivered_at is not None:
            fulfilment.check_not_ahead(notice.delivered_at, now)

        async def decision(unit: UnitOfWork, forgotten: bool) -> None:
            shipment = await unit.get(SHIPMENT, shipment_id)
            delivered = fulfilment.deliver(shipment, notice.delivered_at, now)
            if not _is_about(notice, shipment_id, shipment):
                raise Conflict("wrong_shipment", "the notice names another shipment")
            order = await _emit(unit, shipment_id, shipment, delivered)
            if delivered:
                await keep_notice(
                    unit,
                    SignedBody(body, signature),
                    user_id=order.buyer_id,
                    sender="carrier",
                    about="shipment",
                    about_id=shipment_id,
                    forgotten=forgotten,
                )

        return await handle_notice(self._handler, decision, caller)

    async def deliver(
        self,
        caller: Caller,
        shipment_id: UUID,
        at: datetime | None,
        reason: str,
        *,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[None]:
        """Mark a shipment as delivered by hand (ADMIN), or correct the time that was reported.

        Raises Forbidden("role_required"); NotFound("shipment_not_found");
        Conflict("shipment_not_shipped"); Invalid("invalid_delivered_at").
        """
        caller.must_be_admin()

        async def decision(unit: UnitOfWork) -> None:
            shipment = await unit.get(SHIPMENT, shipment_id)
            delivered = fulfilment.deliver_by_hand(shipment, at, self._handler.now(), reason)
            await _emit(unit, shipment_id, shipment, delivered)
            unit.record_ids(shipment_id=shipment_id)

        return await self._handler.handle(decision, caller, once)

    async def _change(
        self,
        caller: Caller,
        shipment_id: UUID,
        decide: Callable[[Shipment, datetime], list[Event]],
        expected_version: int | None,
        once: IdempotencyKey | None,
    ) -> CommandResult[None]:
        async def decision(unit: UnitOfWork) -> None:
            shipment = await unit.get(SHIPMENT, shipment_id)
            caller.must_act_for(shipment.seller_id, "shipment")
            unit.expect(shipment_id, expected_version)
            await _emit(unit, shipment_id, shipment, decide(shipment, self._handler.now()))
            unit.record_ids(shipment_id=shipment_id)

        return await self._handler.handle(decision, caller, once)


async def _emit(
    unit: UnitOfWork, shipment_id: UUID, shipment: Shipment, events: list[Event]
) -> Order:
    """Emit a shipment's events, and with them the order's progress that follows from all its
    shipments. Returns the order as it was."""
    unit.emit(shipment_id, events)
    order = await unit.get(ORDER, shipment.order_id)
    statuses = [(await unit.get(SHIPMENT, each)).status for each in order.shipment_ids]
    unit.emit(
        shipment.order_id,
        orders.advance_fulfilment(order, fulfilment.order_status(statuses), shipment_id),
    )
    return order


def _read(body: bytes) -> DeliveryNotice:
    try:
        notice = msgspec.json.decode(body or b"{}", type=DeliveryNotice)
    except JSON_ERRORS as error:
        raise Invalid("malformed_notice", "the body is not a notice") from error
    if notice.shipment_id is None and notice.tracking_number is None:
        raise Invalid(
            "parcel_not_named", "the body has to name the shipment_id or the tracking_number"
        )
    return notice


def _is_about(notice: DeliveryNotice, shipment_id: UUID, shipment: Shipment) -> bool:
    """Whether everything that the notice names is this shipment's."""
    number, own = notice.tracking_number, shipment.tracking_number
    if number is not None and (
        own is None or fulfilment.tracking_key(own) != fulfilment.tracking_key(number)
    ):
        return False
    return notice.shipment_id in (None, shipment_id)
