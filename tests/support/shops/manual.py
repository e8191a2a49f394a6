"""A shop whose money moves only when the test says so: the test runs reactors, jobs and deadlines
itself, in one process."""

import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import httpx

from adapters.webhooks import signature
from commands.aggregates import CART, ORDER, PAYMENT, STOCK, TRANSACTION, WALLET
from commands.caller import SYSTEM, Caller
from commands.carts import CartChanged
from commands.handler import CommandResult
from commands.order_saga import OrderIds
from commands.ports.queue import DeadLetter, Job, JobAttempt, JobHandler, JobsFound
from commands.reactors.deposits import Deposits
from commands.reactors.ledger import Ledger
from commands.reactors.library_grants import library_grants
from commands.reactors.payment_jobs import payment_jobs
from commands.reactors.settlement import settlement
from commands.reactors.stock_opened import stock_opened
from commands.workers.refunds import RefundFailed
from domain import transactions
from domain.cart import Cart
from domain.catalog import Listing, Price
from domain.errors import Refused
from domain.identity import AccountType
from domain.ids import stock_id
from domain.ledger import TransactionPosted, balances
from domain.orders import Order
from domain.payments import Method, Payment
from domain.transactions import Transaction
from domain.wallets import Wallet
from eventstore.log import AlreadyDone, StreamAppend
from kit.clock import ManualClock
from kit.uuid7 import uuid7
from runtime.settings import Settings
from runtime.wiring.core import Core, open_core
from runtime.wiring.work import open_queues, payment_worker
from tests.support.reactors import must_write_as_declared
from tests.support.servers.provider import SECRET, running_provider, running_receiver
from tests.support.shops.log_belongings import LogBelongings

T = TypeVar("T")

ADMIN = Caller("user:admin", uuid7(), "ADMIN")
VISA = Method("card", "pm_card_visa")
BY_WALLET = Method("wallet")


class KeptJobs:
    """A queue that keeps its jobs until the test runs them."""

    name = "kept"

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    async def publish(self, jobs: Sequence[Job]) -> None:
        self.jobs.extend(jobs)

    async def consume(
        self, handler: JobHandler, *, concurrency: int = 4, lost: JobHandler | None = None
    ) -> None:
        raise NotImplementedError("the test does the jobs")

    async def depth(self) -> int:
        return len(self.jobs)

    async def oldest_seconds(self) -> float:
        return 0.0

    async def dead(self) -> int:
        return 0

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        return []

    async def about(self, ids: Collection[UUID]) -> JobsFound:
        return JobsFound([])

    async def delete_dead(self, before: datetime) -> int:
        return 0

    async def redrive(self, job_id: UUID) -> bool:
        return False

    async def redrive_all(self, job_ids: Collection[UUID]) -> Collection[UUID]:
        return ()

    async def discard(self, job_ids: Collection[UUID]) -> Collection[UUID]:
        return ()


async def ordered(checkout: Awaitable[CommandResult[OrderIds | CartChanged]]) -> OrderIds:
    """The result of a checkout that found the cart unchanged."""
    made = (await checkout).value
    assert isinstance(made, OrderIds), made
    return made


class Till:
    """The commands over one log, the reactors that follow money, and a payment provider over
    HTTP."""

    def __init__(self, core: Core, clock: ManualClock, provider_url: str) -> None:
        self.core = core
        self.clock = clock
        self._provider_url = provider_url
        self.commands = core.commands
        core.adapters.belongings = LogBelongings(core.log)
        self.queue = KeptJobs()
        self.dead: list[Job] = []
        self.reactors = [
            payment_jobs(core.handler, self.queue),
            settlement(core.handler),
            library_grants(core.handler),
            Deposits(core.handler).reactor,
            core.commands.account_settling.reactor,
            stock_opened(core.handler),
            Ledger(core.handler).reactor,
        ]
        self._position = 0
        self._notices = itertools.count()

    # -- people and things -------------------------------------------------------------------------

    async def person(self, account_type: AccountType = "BUYER") -> Caller:
        email = f"{uuid7().hex}@example.com"
        made = await self.commands.accounts.register(
            SYSTEM, email=email, password=None, name="Ann", account_type=account_type
        )
        return Caller(f"user:{made.value.user_id}", made.value.user_id, account_type)

    async def wallet(self, owner: Caller, cents: int = 0, currency: str = "USD") -> UUID:
        wallet_id = (await self.commands.wallets.create(owner, currency)).value
        if cents:
            await self.commands.wallets.add_funds(ADMIN, wallet_id, cents, "a gift")
        return wallet_id

    async def game(self, cents: int = 1999, seller: Caller = SYSTEM) -> UUID:
        listing = Listing(
            sku=uuid7().hex, title="Celeste", kind="DIGITAL", prices=(Price("*", cents, "USD"),)
        )
        return (await self.commands.catalog.create(seller, listing, "ACTIVE")).value

    async def physical_game(self, units: int, cents: int = 1999, seller: Caller = SYSTEM) -> UUID:
        """A physical game with this many units in stock."""
        listing = Listing(
            sku=uuid7().hex, title="Chess", kind="PHYSICAL", prices=(Price("*", cents, "USD"),)
        )
        game_id = (await self.commands.catalog.create(seller, listing, "ACTIVE")).value
        await self.commands.inventory.set_total(ADMIN, game_id, units)
        return game_id

    async def transfer_under_way(
        self, owner: Caller, source: UUID, target: UUID, cents: int
    ) -> UUID:
        """A transfer that was created alone, as earlier releases began each, and this one does
        where it cannot carry it out at once."""
        created = transactions.transfer(
            user_id=owner.person(),
            from_wallet_id=source,
            to_wallet_id=target,
            amount_cents=cents,
            currency="USD",
        )
        transaction_id = uuid7()
        await self.core.log.append([StreamAppend(transaction_id, 0, created)])
        return transaction_id

    # -- steps -------------------------------------------------------------------------------------

    async def react(self) -> None:
        """Let the reactors handle new events, once."""
        for recorded in await self.core.log.read(self._position):
            for reactor in self.reactors:
                with suppress(Refused, AlreadyDone):
                    await reactor.react(recorded)
            self._position = recorded.env.position

    async def work(self) -> None:
        """Run the waiting jobs."""
        jobs, self.queue.jobs[:] = list(self.queue.jobs), []
        worker = payment_worker(self.core)
        for job in jobs:
            try:
                await worker.handle(JobAttempt(job, 1, last=False))
            except RefundFailed:
                self.dead.append(job)

    async def settle(self) -> None:
        """Wait for transfers under way, then react and work until nothing more happens."""
        await self.commands.transactions.close()
        while self._position < await self.core.log.head() or self.queue.jobs:
            await self.react()
            await self.work()

    async def notice(
        self, payment_id: UUID, type: str, *, event_id: str = "", **about: Any
    ) -> int | None:
        """The provider's signed notice, as its webhook would send it."""
        payment = await self.payment(payment_id)
        intent = {
            "id": payment.provider_ref or f"pi_{payment_id.hex}",
            "amount": payment.amount_cents,
            "currency": payment.currency.lower(),
            "status": "",
            "metadata": {"payment_id": str(payment_id)},
        }
        now = int(self.clock.now().timestamp())
        event_id = event_id or f"evt_{payment_id.hex}_{next(self._notices)}"
        event = {
            "id": event_id,
            "type": type,
            "created": now,
            "data": {"object": {**intent, **about}},
        }
        body = json.dumps(event).encode()
        return await self.commands.payments.receive_notice(body, signature.sign(body, SECRET, now))

    async def fail_refund(self, payment_id: UUID, type: str = "refund.failed") -> None:
        """The provider reports that the payment's last refund, which was pending, has failed."""
        refund = list((await self.payment(payment_id)).refunds.values())[-1]
        async with httpx.AsyncClient() as http:
            path = f"/v1/test_helpers/refunds/{refund.provider_ref}/expire"
            assert (await http.post(self._provider_url + path)).status_code == 200
        await self.refund_notice(payment_id, type, "failed")
        await self.settle()

    async def refund_notice(
        self, payment_id: UUID, type: str, status: str, **about: Any
    ) -> int | None:
        """The provider's notice of the payment's last refund or, when it has none, of one made by
        hand."""
        payment = await self.payment(payment_id)
        refund_id, refund = next(reversed(list(payment.refunds.items())), (None, None))
        said = {
            "id": refund.provider_ref if refund else "re_by_hand",
            "amount": refund.amount_cents if refund else payment.amount_cents,
            "status": status,
            "payment_intent": payment.provider_ref,
            "metadata": {
                "payment_id": str(payment_id),
                **({"refund_id": str(refund_id)} if refund_id else {}),
            },
        }
        return await self.notice(payment_id, type, **{**said, **about})

    # -- state -------------------------------------------------------------------------------------

    async def balance(self, wallet_id: UUID) -> int:
        return (await self.wallet_state(wallet_id)).balance_cents

    async def wallet_state(self, wallet_id: UUID) -> Wallet:
        return _there(await self.core.repository.state(WALLET, wallet_id))

    async def transaction(self, transaction_id: UUID) -> Transaction:
        return _there(await self.core.repository.state(TRANSACTION, transaction_id))

    async def order(self, order_id: UUID) -> Order:
        return _there(await self.core.repository.state(ORDER, order_id))

    async def payment(self, payment_id: UUID) -> Payment:
        return _there(await self.core.repository.state(PAYMENT, payment_id))

    async def cart(self, cart_id: UUID) -> Cart:
        return _there(await self.core.repository.state(CART, cart_id))

    async def stock(self, game_id: UUID) -> tuple[int, int, int, int]:
        """Total, available, reserved, allocated."""
        stock = _there(await self.core.repository.state(STOCK, stock_id(game_id)))
        return stock.total, stock.available, stock.reserved, stock.allocated

    async def accounts(self) -> dict[str, int]:
        """Every account's balance in the ledger. Fails when a posting does not balance, at any
        position."""
        return accounts_of(
            each.event
            for each in await self.core.log.read(0, limit=1_000_000)
            if isinstance(each.event, TransactionPosted)
        )


def accounts_of(postings: Iterable[TransactionPosted]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for posting in postings:
        assert not any(balances(posting.entries).values()), posting
        for entry in posting.entries:
            amount = entry.amount_cents if entry.direction == "credit" else -entry.amount_cents
            sums[entry.account_id] = sums.get(entry.account_id, 0) + amount
    return sums


def _there(found: T | None) -> T:
    assert found is not None
    return found


@asynccontextmanager
async def open_till(url: str, home: Path) -> AsyncIterator[Till]:
    """A till over a database, with a provider whose own webhooks do not reach it."""
    with (
        running_receiver() as receiver,
        running_provider(
            home / "provider.sqlite3", receiver.url, slow_seconds=3600
        ) as provider_url,
    ):
        settings = Settings(
            home=home, database_url=url, provider_url=provider_url, payment_webhook_secrets=SECRET
        )
        clock = ManualClock(datetime.now(UTC))
        async with open_core(settings, clock=clock) as core, open_queues(core) as queues:
            yield Till(core, clock, provider_url)
            await must_write_as_declared(core, queues)
