"""Adding bought games to their buyers' libraries, and removing refunded ones."""

from commands.aggregates import CLAIM, LIBRARY, ORDER
from commands.handler import CommandHandler
from commands.order_saga import release_ownership
from commands.reactors.reactor import Reactor, caused, once_for
from domain import library
from domain.ids import library_id
from domain.orders import OrderCompleted, OrderConfirmed, OrderRefunded
from eventstore.log import Envelope
from eventstore.unit_of_work import UnitOfWork


def library_grants(handler: CommandHandler) -> Reactor:
    """Adds the games of a paid order to the buyer's library; removes them after a full refund."""
    name = "library_grants"

    async def completed(_event: OrderCompleted, env: Envelope) -> None:
        order = await handler.cached(ORDER, env.stream_id)
        if order is not None and order.is_digital:
            await grant(env)

    async def confirmed(_event: OrderConfirmed, env: Envelope) -> None:
        """A mixed order's digital games are granted on payment, without waiting for its
        delivery."""
        order = await handler.cached(ORDER, env.stream_id)
        if (
            order is not None
            and not order.is_digital
            and any(line.kind == "DIGITAL" for line in order.lines)
        ):
            await grant(env)

    async def grant(env: Envelope) -> None:
        async def decision(unit: UnitOfWork) -> None:
            order = await unit.get(ORDER, env.stream_id)
            stream_id = library_id(order.buyer_id)
            for line in order.lines:
                if line.kind == "DIGITAL":
                    added = library.add(
                        await unit.load(LIBRARY, stream_id),
                        user_id=order.buyer_id,
                        game_id=line.game_id,
                        order_id=env.stream_id,
                        title=line.title,
                        purchase_date=env.occurred_at,
                    )
                    unit.emit(stream_id, added)

        await handler.handle(decision, caused(name, env), once_for(name, env))

    async def refunded(event: OrderRefunded, env: Envelope) -> None:
        if not event.full:
            return

        async def decision(unit: UnitOfWork) -> None:
            order = await unit.get(ORDER, env.stream_id)
            stream_id = library_id(order.buyer_id)
            for line in order.lines:
                owned = await unit.load(LIBRARY, stream_id)
                unit.emit(
                    stream_id,
                    library.remove(
                        owned, game_id=line.game_id, order_id=env.stream_id, reason="refunded"
                    ),
                )
            await release_ownership(unit, env.stream_id, order, "refunded")

        await handler.handle(decision, caused(name, env), once_for(name, env))

    return Reactor(
        name,
        {OrderConfirmed: confirmed, OrderCompleted: completed, OrderRefunded: refunded},
        writes=(LIBRARY, CLAIM),
    )
