"""A process whose memory is behind another process' commits: its old state neither counts nor
harms."""

from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio

from commands.aggregates import USER
from commands.reactors import notifications
from domain.errors import Conflict, NotFound, Refused
from domain.ids import stock_id
from domain.notifications import NotificationRequested
from domain.transactions import TransactionFailed
from eventstore.log import AlreadyDone
from runtime.wiring.core import open_core
from tests.support.shops.gateway import projecting
from tests.support.shops.manual import ADMIN, Till, open_till

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(
    module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Till]:
    async with (
        open_till(module_database, tmp_path_factory.mktemp("here")) as till,
        projecting(module_database),
    ):
        yield till


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def there(here: Till) -> AsyncIterator[Till]:
    """Another process on the same log."""
    async with open_core(here.core.settings, clock=here.clock) as core:
        yield Till(core, here.clock, here._provider_url)


async def test_a_person_forgotten_elsewhere_gets_no_message_and_delays_nobody(
    here: Till, there: Till
) -> None:
    ann, bob = await there.person(), await there.person()
    source, target = await there.wallet(ann, 1000), await there.wallet(bob)
    landed = await there.core.commands.transactions.transfer(ann, source, target, 300, "USD")
    await there.core.commands.transactions.when_ready(landed.value, 10)
    assert await here.core.repository.state(USER, bob.person()) is not None, (
        "as the worker has seen him before"
    )
    await there.core.commands.wallets.deduct_funds(ADMIN, target, 300, "paid out")
    await there.core.commands.account_ends.close(bob, bob.person(), forget=True)

    reactor = notifications.notification_requests(here.core.handler, here.core.commands.mail_tokens)
    for recorded in await here.core.log.read(0):
        with suppress(AlreadyDone, Refused):
            await reactor.react(recorded)

    told = [
        each.event
        for each in await here.core.log.read(0)
        if isinstance(each.event, NotificationRequested)
    ]
    assert {each.template for each in told if each.user_id == ann.person()} >= {"transfer_sent"}
    assert "transfer_received" not in {
        each.template for each in told if each.user_id == bob.person()
    }


async def test_a_wallet_emptied_elsewhere_pays_for_no_transfer_here(
    here: Till, there: Till
) -> None:
    ann = await here.person()
    source, target = await here.wallet(ann, 1000), await here.wallet(await here.person())
    await there.core.commands.wallets.deduct_funds(ADMIN, source, 900, "paid out")
    with pytest.raises(Conflict, match="insufficient_funds"):
        await here.core.commands.transactions.transfer(ann, source, target, 300, "USD")
    assert not [
        each for each in await here.core.log.read(0) if isinstance(each.event, TransactionFailed)
    ]


async def test_looking_at_anothers_things_as_a_wallet_freezes_nothing(
    here: Till, there: Till
) -> None:
    """It used to cache an outdated stock state under its newest version, so that no rule held any
    more."""
    mallory = await here.person()
    source, game = await here.wallet(mallory, 1000), await here.physical_game(5)
    await here.settle()
    stock = (await here.core.log.versions([stock_id(game)]))[0]
    await there.core.commands.inventory.set_total(ADMIN, game, 2)
    with pytest.raises(NotFound):
        await here.core.commands.transactions.transfer(mallory, source, stock_id(game), 1, "USD")
    await here.core.commands.inventory.set_total(ADMIN, game, 3)
    assert (await here.core.log.versions([stock_id(game)]))[0] == stock + 2
    assert await there.stock(game) == (3, 3, 0, 0)
