"""What may change about shipments: their seller processes and ships them, the carrier's notice delivers them; and the
order that follows them.
"""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from commands.aggregates import ORDER, SHIPMENT
from commands.bus import Caller, CommandBus, Landed
from commands.reactors import Reactor, caused, once_for
from domain import fulfilment, orders
from domain.errors import Forbidden, NotFound
from domain.events import Event
from domain.fulfilment import Shipment, ShipmentStatusUpdated
from eventstore.log import Envelope, Once
from eventstore.repository import Unit


class Shipments:
    """Commands on shipments."""

    def __init__(self, bus: CommandBus) -> None:
        self._bus = bus

    async def process(self, caller: Caller, shipment_id: UUID, *, once: Once | None = None) -> Landed[None]:
        """The seller begins. Raises NotFound; Forbidden("not_yours"); Conflict: shipment_provisional, …not_pending."""
        return await self._change(caller, shipment_id, fulfilment.process, once)

    async def ship(
        self, caller: Caller, shipment_id: UUID, carrier: str, tracking_number: str, *, once: Once | None = None
    ) -> Landed[None]:
        """The carrier has it. Raises NotFound; Forbidden("not_yours"); Conflict; Invalid("invalid_tracking")."""
        return await self._change(
            caller, shipment_id, lambda s, now: fulfilment.ship(s, carrier, tracking_number, now), once
        )

    async def deliver(self, caller: Caller, shipment_id: UUID, at: datetime | None = None) -> Landed[None]:
        """The carrier has delivered it; saying so again changes nothing. The gateway has checked who says so.

        Raises NotFound("shipment_not_found"); Conflict("shipment_not_shipped").
        """

        async def decision(unit: Unit) -> None:
            shipment = await _existing(unit, shipment_id)
            unit.emit(shipment_id, fulfilment.deliver(shipment, at or self._bus.clock.now()))

        return await self._bus.run(decision, caller)

    async def _change(
        self,
        caller: Caller,
        shipment_id: UUID,
        decide: Callable[[Shipment, datetime], list[Event]],
        once: Once | None,
    ) -> Landed[None]:
        async def decision(unit: Unit) -> None:
            shipment = await _existing(unit, shipment_id)
            if not caller.may_act_for(shipment.seller_id):
                raise Forbidden("not_yours", "that is another seller's shipment")
            unit.emit(shipment_id, decide(shipment, self._bus.clock.now()))
            unit.refer(shipment_id=shipment_id)

        return await self._bus.run(decision, caller, once)


def fulfilment_follows(bus: CommandBus) -> Reactor:
    """Lets an order's status follow its shipments."""
    name = "fulfilment"

    async def updated(_event: ShipmentStatusUpdated, env: Envelope) -> None:
        async def decision(unit: Unit) -> None:
            order_id = (await _existing(unit, env.stream_id)).order_id
            order = await unit.load(ORDER, order_id)
            assert order is not None
            statuses = [(await _existing(unit, shipment_id)).status for shipment_id in order.shipment_ids]
            unit.emit(order_id, orders.follow(order, fulfilment.order_status(statuses), env.stream_id))

        await bus.run(decision, caused(name, env), once_for(name, env))

    return Reactor(name, {ShipmentStatusUpdated: updated})


async def _existing(unit: Unit, shipment_id: UUID) -> Shipment:
    shipment = await unit.load(SHIPMENT, shipment_id)
    if shipment is None:
        raise NotFound("shipment_not_found", "there is no such shipment")
    return shipment
