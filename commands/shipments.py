"""What may change about shipments: their seller processes and ships them, the carrier's notice delivers them; and their
order follows.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec

from commands.aggregates import ORDER, SHIPMENT
from commands.bus import Caller, CommandBus, Landed
from commands.ports import CarrierSignatures
from domain import fulfilment, orders
from domain.errors import Conflict, Forbidden, Invalid, NotFound, Stale
from domain.events import Event
from domain.fulfilment import Shipment
from eventstore.log import Once
from eventstore.repository import Unit

CLOCK_SKEW = timedelta(minutes=5)
"""How far a carrier's clock may be ahead of ours."""


class DeliveryNotice(msgspec.Struct, frozen=True):
    """What a carrier says of a parcel; without a time, it was delivered just now. The signature covers the body alone:
    only when that says which parcel it is about, nobody can turn the notice into one of another."""

    delivered_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    shipment_id: UUID | None = None
    tracking_number: str | None = None


class Shipments:
    """Commands on shipments."""

    def __init__(self, bus: CommandBus, signatures: CarrierSignatures) -> None:
        self._bus, self._signatures = bus, signatures

    async def process(
        self, caller: Caller, shipment_id: UUID, *, expected_version: int | None = None, once: Once | None = None
    ) -> Landed[None]:
        """The seller begins.

        Raises NotFound; Forbidden("not_yours"); Stale; Conflict: shipment_provisional, shipment_not_pending.
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
        once: Once | None = None,
    ) -> Landed[None]:
        """The carrier has it.

        Raises NotFound; Forbidden("not_yours"); Stale; Conflict: shipment_provisional, shipment_not_processing;
        Invalid("invalid_tracking").
        """

        def decide(shipment: Shipment, now: datetime) -> list[Event]:
            return fulfilment.ship(shipment, carrier, tracking_number, now)

        return await self._change(caller, shipment_id, decide, expected_version, once)

    async def receive_notice(self, caller: Caller, shipment_id: UUID, body: bytes, signature: str) -> Landed[None]:
        """The carrier's signed notice that it has delivered; a repeat changes nothing.

        Raises InvalidSignature; Invalid: malformed_notice, invalid_delivered_at (of the future); Conflict
        ("wrong_shipment") when it is of another; and as `deliver`.
        """
        now = self._bus.clock.now()
        self._signatures.check(body, signature, now)
        try:
            notice = msgspec.json.decode(body or b"{}", type=DeliveryNotice)
        except msgspec.DecodeError as error:
            raise Invalid("malformed_notice", "the body is not a notice") from error
        if notice.delivered_at is not None and notice.delivered_at > now + CLOCK_SKEW:
            raise Invalid("invalid_delivered_at", "nothing is delivered in the future")
        if notice.shipment_id not in (None, shipment_id):
            raise _wrong_shipment()
        return await self.deliver(caller, shipment_id, notice.delivered_at, notice.tracking_number)

    async def deliver(
        self, caller: Caller, shipment_id: UUID, at: datetime | None = None, tracking_number: str | None = None
    ) -> Landed[None]:
        """The carrier has delivered it; saying so again changes nothing. Whoever calls has checked who says so.

        Raises NotFound("shipment_not_found"); Conflict: shipment_not_shipped; wrong_shipment, for what has another
        tracking number than is told, if one is.
        """

        async def decision(unit: Unit) -> None:
            shipment = await _existing(unit, shipment_id)
            events = fulfilment.deliver(shipment, at or self._bus.clock.now())
            if tracking_number is not None and not _is_of(shipment, tracking_number):
                raise _wrong_shipment()
            unit.emit(shipment_id, events)
            await _order_follows(unit, shipment_id, shipment)

        return await self._bus.run(decision, caller)

    async def _change(
        self,
        caller: Caller,
        shipment_id: UUID,
        decide: Callable[[Shipment, datetime], list[Event]],
        expected_version: int | None,
        once: Once | None,
    ) -> Landed[None]:
        async def decision(unit: Unit) -> None:
            shipment = await _existing(unit, shipment_id)
            if not caller.may_act_for(shipment.seller_id):
                raise Forbidden("not_yours", "that is another seller's shipment")
            version = unit.version(shipment_id)
            if expected_version is not None and version != expected_version:
                raise Stale("version_mismatch", "the shipment was changed meanwhile", version=version)
            unit.emit(shipment_id, decide(shipment, self._bus.clock.now()))
            await _order_follows(unit, shipment_id, shipment)
            unit.refer(shipment_id=shipment_id)

        return await self._bus.run(decision, caller, once)


async def _order_follows(unit: Unit, shipment_id: UUID, shipment: Shipment) -> None:
    """In the same append the order comes as far as its shipments have: nobody sees the one without the other."""
    order = await unit.load(ORDER, shipment.order_id)
    assert order is not None
    statuses = [(await _existing(unit, each)).status for each in order.shipment_ids]
    unit.emit(shipment.order_id, orders.follow(order, fulfilment.order_status(statuses), shipment_id))


async def _existing(unit: Unit, shipment_id: UUID) -> Shipment:
    shipment = await unit.load(SHIPMENT, shipment_id)
    if shipment is None:
        raise NotFound("shipment_not_found", "there is no such shipment")
    return shipment


def _wrong_shipment() -> Conflict:
    return Conflict("wrong_shipment", "the notice is of another shipment")


def _is_of(shipment: Shipment, tracking_number: str) -> bool:
    own = shipment.tracking_number
    return own is not None and fulfilment.tracking_key(own) == fulfilment.tracking_key(tracking_number)
