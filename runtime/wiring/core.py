"""The log and the commands of one process. Every process of the program is built on them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial

from adapters.passwords import Argon2Hasher
from api.tokens import ACCESS_LIFETIME, Tokens
from commands.accounts.mail_tokens import MailTokens
from commands.accounts.mailboxes import Mailboxes
from commands.accounts.session_ends import SessionEnds
from commands.handler import CommandHandler
from commands.ports.secrets import PasswordHasher
from commands.sealed_secrets import SealedSecrets
from commands.services import Commands
from commands.shop_rules import ShopRules
from eventstore.clock_watch import ClockWatch
from eventstore.consumers.stream_watcher import StreamFollower
from eventstore.database.under_way import holding
from eventstore.postgres_log import PostgresLog
from eventstore.repository import Repository
from eventstore.snapshots import Snapshots
from kit.clock import SYSTEM_CLOCK, Clock
from runtime.database.instance import database_url, pooler_url
from runtime.settings import Settings
from runtime.wiring.adapters import Adapters
from runtime.wiring.codec import codec
from runtime.wiring.log_of_record import refuse_mirror
from runtime.wiring.master_key import use_master_key
from runtime.wiring.secrets import Secrets, read_secrets

ISSUER = AUDIENCE = "ludoteca"


@dataclass
class Core:
    """The log of one process, and the commands over it."""

    settings: Settings
    url: str
    clock: Clock
    log: PostgresLog
    clock_watch: ClockWatch
    watcher: StreamFollower
    repository: Repository
    handler: CommandHandler
    secrets: Secrets
    stack: AsyncExitStack
    adapters: Adapters
    commands: Commands

    @cached_property
    def tokens(self) -> Tokens:
        return Tokens(self.secrets.signing_key, ISSUER, AUDIENCE, self.clock)

    @cached_property
    def session_ends(self) -> SessionEnds:
        ends = SessionEnds(self.log, self.repository, self.adapters.sessions, ACCESS_LIFETIME)
        self.stack.push_async_callback(ends.close)
        return ends


@asynccontextmanager
async def open_core(
    settings: Settings,
    *,
    clock: Clock | None = None,
    hasher: PasswordHasher | None = None,
    watched: bool = False,
) -> AsyncIterator[Core]:
    """Open the log and everything on top of it, and close it at the end. The database must be
    migrated.

    A `clock` passed in may differ from the database's without limit. For `watched` see
    `PostgresLog.open`. Raises WrongLog,
    WrongMasterKey.
    """
    url = database_url(settings)
    use_master_key(settings)
    tolerance = timedelta(seconds=settings.clock_tolerance_seconds) if clock is None else None
    clock = clock or SYSTEM_CLOCK
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(
            _opener(settings)(
                url,
                codec(),
                pool_size=settings.pool_size,
                clock=clock,
                clock_tolerance=tolerance,
                watched=watched,
                pooler=pooler_url(settings),
            )
        )
        if not settings.mirrored:
            await refuse_mirror(log.pool)
        repository = Repository(log, Snapshots(log.pool))
        watcher = StreamFollower(log)
        stack.push_async_callback(watcher.close)
        keep_keys = timedelta(days=settings.reaction_keys_days)
        handler = CommandHandler(repository, clock, keep_keys)
        secrets = await read_secrets(settings, log.pool)
        watch = await _watched(stack, log, clock, tolerance)
        adapters = Adapters(settings, secrets, log, stack, hasher or Argon2Hasher())
        commands = Commands(
            handler=handler,
            raw_log=log,
            keys=log.keys,
            watcher=watcher,
            rules=rules_of(settings),
            ports=adapters,
            mailboxes=Mailboxes(repository, secrets.pepper),
            mail_tokens=MailTokens(secrets.mail),
            sealed_secrets=SealedSecrets(secrets.client_secrets),
            hold=partial(holding, url),
            stack=stack,
        )
        yield Core(
            settings,
            url,
            clock,
            log,
            watch,
            watcher,
            repository,
            handler,
            secrets,
            stack,
            adapters,
            commands,
        )


def _opener(settings: Settings) -> Callable[..., AbstractAsyncContextManager[PostgresLog]]:
    """Opens the log: PostgreSQL's, or KurrentDB's with its mirror there."""
    if not settings.mirrored:
        return PostgresLog.open
    from adapters.kurrentdb.kurrent_log import KurrentLog  # slow to import

    return partial(KurrentLog.mirrored, settings.kurrentdb)


def rules_of(settings: Settings) -> ShopRules:
    """The rules that the operator has set."""
    return ShopRules(
        payment_ttl=timedelta(seconds=settings.payment_ttl_seconds),
        cart_ttl=timedelta(seconds=settings.cart_ttl_seconds),
        cart_max=timedelta(seconds=settings.cart_max_seconds),
        cart_max_quantity=settings.cart_max_quantity,
        allocation_ttl=timedelta(seconds=settings.allocation_ttl_seconds),
        fee_bps=settings.platform_fee_bps,
        low_stock=settings.low_stock,
    )


async def _watched(
    stack: AsyncExitStack, log: PostgresLog, clock: Clock, tolerance: timedelta | None
) -> ClockWatch:
    """The watch over this process's clock. A clock set by hand is not watched."""
    watch = ClockWatch(log.pool, clock, tolerance)
    if tolerance is not None:
        task = asyncio.create_task(watch.run(), name="clock-watch")

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        stack.push_async_callback(end)
    return watch
