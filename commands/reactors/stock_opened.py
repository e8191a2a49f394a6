"""Opening stock items for physical games."""

from commands.aggregates import STOCK
from commands.handler import CommandHandler
from commands.inventory import stock_of
from commands.reactors.reactor import Reactor, caused, once_for
from domain.catalog import GameCreated
from eventstore.log import Envelope
from eventstore.unit_of_work import UnitOfWork


def stock_opened(handler: CommandHandler) -> Reactor:
    """Opens a stock item for each new physical game, without units."""
    name = "stock_opened"

    async def created(event: GameCreated, env: Envelope) -> None:
        if event.kind != "PHYSICAL":
            return

        async def decision(unit: UnitOfWork) -> None:
            await stock_of(unit, env.stream_id)

        await handler.handle(decision, caused(name, env), once_for(name, env))

    return Reactor(name, {GameCreated: created}, writes=(STOCK,))
