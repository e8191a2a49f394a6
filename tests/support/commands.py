"""Test commands over the log in memory: given these events, when this command runs, then these
events or this refusal.

    async def test_an_admin_adds_funds(shop: Shop) -> None:
        given = shop.given({ANA: [ana()], WALLET: [OPENED]})
        when = given.when(shop.wallets.add_funds(ADMIN, WALLET, 500, "gift"))
        await when.then(FundsAdded(amount_cents=500, balance_cents=500, **GIFT))

What was generated on the way, such as ids, is compared to `ANY` (`unittest.mock`).
"""

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from datetime import timedelta
from typing import Generic, TypeVar, cast
from uuid import UUID

import pytest

from adapters.webhooks.signature import SignatureVerifier
from commands.accounts.mail_tokens import MailTokens
from commands.accounts.mailboxes import Mailboxes
from commands.caller import Caller
from commands.handler import CommandHandler
from commands.sealed_secrets import SealedSecrets
from commands.services import Commands
from commands.shop_rules import ShopRules
from domain.errors import Refused
from domain.events import Event
from domain.identity import AccountType
from eventstore.log import AlreadyDone, IdempotencyRecord, StreamAppend
from eventstore.memory import Memory
from eventstore.memory_log import MemoryLog
from eventstore.postgres_log import PostgresLog
from eventstore.repository import Repository
from kit.clock import ManualClock
from runtime.wiring.codec import codec
from tests.support.fakes import FakePorts
from tests.support.given_when_then import NOON, an_id
from tests.support.shops.log_belongings import LogBelongings

T = TypeVar("T")
E = TypeVar("E", bound=Exception)

Streams = Mapping[UUID, Sequence[Event]]

CODEC = codec()

RULES = ShopRules(
    payment_ttl=timedelta(minutes=30),
    cart_ttl=timedelta(minutes=15),
    cart_max=timedelta(hours=1),
    cart_max_quantity=10,
    allocation_ttl=timedelta(minutes=20),
    fee_bps=1000,
    low_stock=3,
)

CARRIER_SECRET = "carrier-secret"

ADMIN_ID = an_id("admin")


def caller(
    user_id: UUID, account_type: AccountType = "BUYER", *, session_id: UUID | None = None
) -> Caller:
    """The caller of a command: a person with an account."""
    return Caller(f"user:{user_id}", user_id, account_type, session_id=session_id)


ADMIN = caller(ADMIN_ID, "ADMIN")


class Shop(Commands):
    """All commands, over one log."""

    def __init__(self, log: MemoryLog, clock: ManualClock, stack: AsyncExitStack) -> None:
        handler = CommandHandler(Repository(log), clock)
        self.log = log
        self.clock = clock
        self.fakes = FakePorts(clock, LogBelongings(log), SignatureVerifier([CARRIER_SECRET]))
        super().__init__(
            handler=handler,
            raw_log=cast(PostgresLog, log),
            keys=log.keys,
            watcher=log,
            rules=RULES,
            ports=self.fakes,
            mailboxes=Mailboxes(handler.repository, b"pepper"),
            mail_tokens=MailTokens(b"m" * 32),
            sealed_secrets=SealedSecrets(b"c" * 32),
            hold=lambda _: nullcontext(),
            stack=stack,
        )

    # -- given, when, then -------------------------------------------------------------------------

    def given(self, *streams: Streams) -> "Given":
        """Append these events, after those that their streams already have."""
        return Given(self, streams)

    def when(self, command: Awaitable[T]) -> "When[T]":
        """Prepare a command on the log as it is."""
        return When(self, (), command)

    async def append(self, streams: Streams) -> None:
        """Append these events, after those that their streams already have; the persons in them get
        keys."""
        for stream_id, events in streams.items():
            persons = {
                person
                for event in events
                if (person := CODEC.person_of(event, stream_id)) is not None
            }
            await self.log.keys.create(persons)
            (version,) = await self.log.versions([stream_id])
            await self.log.append([StreamAppend(stream_id, version, events)])


class Given:
    """Events that are in the log."""

    def __init__(self, shop: Shop, streams: Sequence[Streams]) -> None:
        self._shop = shop
        self._streams = streams

    def when(self, command: Awaitable[T]) -> "When[T]":
        """Prepare a command on them."""
        return When(self._shop, self._streams, command)


class When(Generic[T]):
    """A command that is carried out only by the expectation that follows."""

    def __init__(self, shop: Shop, given: Sequence[Streams], command: Awaitable[T]) -> None:
        self._shop = shop
        self._given = given
        self._command = command

    async def then(self, *expected: Event) -> T:
        """Expect exactly these events; those of one type in this order. Returns the command's
        result."""
        head = await self._start()
        result = await self._command
        assert _by_name(await self._since(head)) == _by_name(expected)
        return result

    async def then_nothing(self) -> T:
        """Expect no event and no refusal. Returns the command's result."""
        return await self.then()

    async def then_refused(self, kind: type[Refused], code: str, **extra: object) -> None:
        """Expect this refusal, with at least these fields in its problem, and no event."""
        refused = await self._then_raises(kind)
        assert refused.code == code, f"refused as {refused}"
        assert {name: refused.extra.get(name) for name in extra} == extra

    async def then_raises(self, kind: type[Exception]) -> None:
        """Expect this error, and no event."""
        await self._then_raises(kind)

    async def then_known(self) -> IdempotencyRecord:
        """Expect that the command is recognised by its idempotency key, and no event. Returns the
        record of the key."""
        return (await self._then_raises(AlreadyDone)).done

    async def _then_raises(self, kind: type[E]) -> E:
        head = await self._start()
        with pytest.raises(kind) as failed:
            await self._command
        assert type(failed.value) is kind, f"not {kind.__name__}: {failed.value!r}"
        assert await self._since(head) == []
        return failed.value

    async def _start(self) -> int:
        for streams in self._given:
            await self._shop.append(streams)
        return await self._shop.log.head()

    async def _since(self, position: int) -> list[Event]:
        return [recorded.event for recorded in await self._shop.log.read(position)]


def _by_name(events: Sequence[Event]) -> list[Event]:
    return sorted(events, key=lambda event: event.NAME)


@asynccontextmanager
async def open_shop() -> AsyncIterator[Shop]:
    """A shop with an empty log, at NOON."""
    clock = ManualClock(NOON)
    async with (
        MemoryLog.open(CODEC, Memory(clock), clock=clock) as log,
        AsyncExitStack() as stack,
    ):
        yield Shop(log, clock, stack)
