"""Everything that the read models store about one account."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import TypeVar
from uuid import UUID

import msgspec

from projections.models.carts import Cart
from projections.models.games import Game
from projections.models.ledger import LedgerEntry
from projections.models.library import OwnedGame
from projections.models.notifications import Notification
from projections.models.orders import OrderLineRow
from projections.models.payments import Payment
from projections.models.receipts import Receipt
from projections.models.shipments import Shipment
from projections.models.transactions import Transaction
from projections.models.users import User
from projections.models.wallets import Wallet, WalletMovement
from projections.models.webhook_endpoints import WebhookDelivery, WebhookEndpoint
from queries.accounts import library, notifications, users
from queries.accounts import webhook_endpoints as webhooks
from queries.catalog import games
from queries.catalog import stock as stocks
from queries.engine.paging import MAX_LIMIT, Page
from queries.engine.read_models import QueryResult, ReadModels
from queries.money import ledger, transactions, wallets
from queries.orders import orders, shipments

SECRET_PARAMS = frozenset({"token", "link"})
"""Fields of a mail that prove who reads it. Its owner does not need them in an export, and others
could misuse them."""

SECRET_FIELDS = frozenset({"password_hash", "email_digest"})
"""Fields of an account's events that help whoever guesses passwords or addresses."""

T = TypeVar("T", bound=msgspec.Struct)
Ask = Callable[..., Awaitable[QueryResult[Page[T]]]]


class Purse(Wallet, kw_only=True):
    """A wallet and all its movements, the latest first."""

    statement: list[WalletMovement]


class Sale(msgspec.Struct, frozen=True):
    """An order with the lines that the account sold, without its buyer."""

    order_id: UUID
    status: str
    currency: str
    lines: list[OrderLineRow]
    created_at: datetime


class LedgerAccounts(msgspec.Struct, frozen=True):
    """A ledger account in each of its currencies, and its entries, the latest first."""

    accounts: list[ledger.LedgerAccount]
    entries: list[LedgerEntry]


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """All data of one account."""

    account: User
    orders: list[orders.Order]
    payments: list[Payment]
    wallets: list[Purse]
    transactions: list[Transaction]
    library: list[OwnedGame]
    carts: list[Cart]
    notifications: list[Notification]
    games: list[Game]
    shipments: list[Shipment]
    sales: list[Sale]
    payables: LedgerAccounts
    receivables: LedgerAccounts
    stock: list[stocks.ListedStock]
    receipts: list[Receipt]
    webhook_endpoints: list[WebhookEndpoint]
    webhook_deliveries: list[WebhookDelivery]


_PAYMENTS = """
SELECT p.* FROM @orders o JOIN @payments p ON p.payment_id = o.payment_id
WHERE o.user_id = %(id)s
UNION ALL
SELECT p.* FROM @transactions t JOIN @payments p ON p.payment_id = t.payment_id
WHERE t.user_id = %(id)s AND t.type = 'deposit'
ORDER BY created_at DESC
"""

_CARTS = "SELECT * FROM @carts WHERE buyer_id = %(id)s ORDER BY created_position DESC"

_RECEIPTS = "SELECT * FROM @receipts WHERE seller_id = %(id)s ORDER BY year, number"

_SALES = """
SELECT order_id, status, currency, created_at,
    jsonb_path_query_array(lines, '$[*] ? (@.seller_id == $seller)', %(seller)s::jsonb) AS lines
FROM @orders WHERE lines @> %(sold)s::jsonb
ORDER BY created_position DESC
"""


async def export(models: ReadModels, user_id: UUID, payable: str, receivable: str) -> Export | None:
    """Everything about an account; None when it does not exist. `payable` and `receivable` are its
    ledger accounts: what the shop owes to the seller, and what the person owes to the shop.

    Raises ReadModelBehind.
    """
    account = (await users.user(models, user_id)).value
    if account is None:
        return None
    endpoints = await _all(partial(webhooks.endpoints, models, seller_id=user_id))
    return Export(
        account=account,
        orders=await _all(partial(orders.orders, models, user_id=user_id)),
        payments=await _payments(models, user_id),
        wallets=await _purses(models, user_id),
        transactions=await _all(partial(transactions.transactions, models, user_id=user_id)),
        library=await _all(partial(library.library, models, user_id)),
        carts=await _carts(models, user_id),
        notifications=await _all(partial(notifications.notifications, models, user_id)),
        games=await _all(partial(games.by_seller, models, user_id)),
        shipments=await _all(partial(shipments.shipments, models, seller_id=user_id)),
        sales=await _sales(models, user_id),
        payables=await _ledger(models, payable),
        receivables=await _ledger(models, receivable),
        stock=await _all(partial(stocks.stocks, models, seller_id=user_id)),
        receipts=(await models.rows(Receipt, _RECEIPTS, id=user_id)).value,
        webhook_endpoints=endpoints,
        webhook_deliveries=[
            delivery
            for each in endpoints
            for delivery in await _all(partial(webhooks.deliveries, models, each.endpoint_id))
        ],
    )


async def _all(ask: Ask[T]) -> list[T]:
    """All items of a list, page by page."""
    found: list[T] = []
    cursor: str | None = None
    while True:
        page = (await ask(limit=MAX_LIMIT, cursor=cursor)).value
        found += page.items
        if (cursor := page.next_cursor) is None:
            return found


async def _ledger(models: ReadModels, account_id: str) -> LedgerAccounts:
    return LedgerAccounts(
        (await ledger.account(models, account_id)).value,
        await _all(partial(ledger.entries, models, account_id)),
    )


async def _purses(models: ReadModels, user_id: UUID) -> list[Purse]:
    purses = []
    for wallet in (await wallets.wallets_of(models, user_id)).value:
        statement = await _all(partial(wallets.statement, models, wallet.wallet_id))
        purses.append(Purse(**msgspec.structs.asdict(wallet), statement=statement))
    return purses


async def _payments(models: ReadModels, user_id: UUID) -> list[Payment]:
    """The payments of a person's orders and deposits."""
    return (await models.rows(Payment, _PAYMENTS, id=user_id)).value


async def _carts(models: ReadModels, user_id: UUID) -> list[Cart]:
    return (await models.rows(Cart, _CARTS, id=user_id)).value


async def _sales(models: ReadModels, seller_id: UUID) -> list[Sale]:
    named = '{"seller": "' + str(seller_id) + '"}'
    sold = '[{"seller_id": "' + str(seller_id) + '"}]'
    return (await models.rows(Sale, _SALES, seller=named, sold=sold)).value
