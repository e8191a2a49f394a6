"""All command services of a process, built over its log and its adapters."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from commands.accounts.account_ends import AccountEnds
from commands.accounts.belongings import Belongings
from commands.accounts.identity import AccountCommands
from commands.accounts.logins import Logins
from commands.accounts.mail_proofs import MailProofs
from commands.accounts.mail_tokens import MailTokens
from commands.accounts.mailboxes import Mailboxes
from commands.acts import ActCommands, Hold
from commands.alerts import AlertCommands
from commands.amendments import AmendmentCommands
from commands.carts import CartCommands
from commands.catalog import CatalogCommands
from commands.disclosures import DisclosureCommands
from commands.findings import FindingCommands
from commands.handler import CommandHandler
from commands.images import ImageCommands
from commands.inventory import InventoryCommands
from commands.orders import OrderCommands
from commands.payments import PaymentCommands
from commands.ports.images import ImageFetcher, ImageMaker, ImageStore
from commands.ports.payments import PaymentProvider
from commands.ports.secrets import PasswordHasher, PersonKeys
from commands.ports.sessions import Sessions
from commands.ports.signatures import CarrierSignatures
from commands.ports.text_log import TextLog
from commands.ports.webhooks import WebhookSender
from commands.reactors.account_settling import AccountSettling
from commands.sealed_secrets import SealedSecrets
from commands.shipments import ShipmentCommands
from commands.shop_rules import ShopRules
from commands.transactions import TransactionCommands
from commands.wallets import WalletCommands
from commands.webhook_endpoints import WebhookEndpointCommands
from eventstore.consumers.stream_watcher import StreamWatcher
from eventstore.postgres_log import PostgresLog


class Ports(Protocol):
    """The adapters that the services need. Each is opened on first use."""

    @property
    def belongings(self) -> Belongings: ...
    @property
    def carrier_signatures(self) -> CarrierSignatures: ...
    @property
    def hasher(self) -> PasswordHasher: ...
    @property
    def image_fetcher(self) -> ImageFetcher: ...
    @property
    def image_maker(self) -> ImageMaker: ...
    @property
    def image_store(self) -> ImageStore: ...
    @property
    def payment_provider(self) -> PaymentProvider: ...
    @property
    def payment_webhook_log(self) -> TextLog: ...
    @property
    def sessions(self) -> Sessions: ...
    @property
    def webhook_sender(self) -> WebhookSender: ...


@dataclass
class Commands:
    """Every command service. Each is made on first use, so that a process opens only the adapters
    that it needs. `stack` closes those with background tasks; `raw_log` reads events as they are
    stored; `hold` shows that acts are under way.
    """

    handler: CommandHandler
    raw_log: PostgresLog
    keys: PersonKeys
    watcher: StreamWatcher
    rules: ShopRules
    ports: Ports
    mailboxes: Mailboxes
    mail_tokens: MailTokens
    sealed_secrets: SealedSecrets
    hold: Hold
    stack: AsyncExitStack

    @cached_property
    def accounts(self) -> AccountCommands:
        return AccountCommands(
            self.handler, self.keys, self.ports.hasher, self.mailboxes, self.mail_tokens
        )

    @cached_property
    def account_settling(self) -> AccountSettling:
        return AccountSettling(self.handler, self.ports.belongings)

    @cached_property
    def account_ends(self) -> AccountEnds:
        return AccountEnds(
            self.handler,
            self.ports.belongings,
            self.account_settling,
            self.mailboxes,
            self.keys,
        )

    @cached_property
    def logins(self) -> Logins:
        return Logins(self.handler, self.mailboxes, self.ports.hasher, self.ports.sessions)

    @cached_property
    def mail_proofs(self) -> MailProofs:
        return MailProofs(self.handler, self.mailboxes, self.ports.hasher, self.mail_tokens)

    @cached_property
    def catalog(self) -> CatalogCommands:
        return CatalogCommands(self.handler)

    @cached_property
    def acts(self) -> ActCommands:
        return ActCommands(self.handler, self.hold)

    @cached_property
    def alerts(self) -> AlertCommands:
        return AlertCommands(self.handler)

    @cached_property
    def disclosures(self) -> DisclosureCommands:
        return DisclosureCommands(self.handler)

    @cached_property
    def findings(self) -> FindingCommands:
        return FindingCommands(self.handler)

    @cached_property
    def images(self) -> ImageCommands:
        return ImageCommands(
            maker=self.ports.image_maker,
            fetcher=self.ports.image_fetcher,
            store=self.ports.image_store,
        )

    @cached_property
    def inventory(self) -> InventoryCommands:
        return InventoryCommands(self.handler, self.rules)

    @cached_property
    def carts(self) -> CartCommands:
        return CartCommands(self.handler, self.rules)

    @cached_property
    def orders(self) -> OrderCommands:
        return OrderCommands(self.handler, self.watcher, self.rules)

    @cached_property
    def payments(self) -> PaymentCommands:
        ports = self.ports
        return PaymentCommands(
            self.handler, ports.payment_provider, self.sealed_secrets, ports.payment_webhook_log
        )

    @cached_property
    def wallets(self) -> WalletCommands:
        return WalletCommands(self.handler)

    @cached_property
    def transactions(self) -> TransactionCommands:
        transactions = TransactionCommands(self.handler, self.watcher, self.rules)
        self.stack.push_async_callback(transactions.close)
        return transactions

    @cached_property
    def webhook_endpoints(self) -> WebhookEndpointCommands:
        return WebhookEndpointCommands(self.handler, self.ports.webhook_sender, self.sealed_secrets)

    @cached_property
    def shipments(self) -> ShipmentCommands:
        return ShipmentCommands(self.handler, self.ports.carrier_signatures)

    @cached_property
    def amendments(self) -> AmendmentCommands:
        return AmendmentCommands(self.handler, self.raw_log)

    def make_all(self) -> None:
        """Make every service now, in the order above, so that an adapter that cannot be opened
        fails the start and not a request."""
        for name, attribute in vars(Commands).items():
            if isinstance(attribute, cached_property):
                getattr(self, name)
