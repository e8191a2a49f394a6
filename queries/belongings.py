"""What hangs on an account: ids to look at. Every query names its columns as the indexes have them."""

from uuid import UUID

import msgspec

from queries.read_models import ReadModels

_OPEN_PAYMENT = "('REQUESTED', 'PROCESSING', 'REQUIRES_ACTION')"
_REFUND_ASKED = """p.history @> '[{{"name": "payment.refund_requested.v1"}}]'::jsonb AND p.status <> 'REFUNDED'"""
_ON_ITS_WAY = "('PENDING', 'PROCESSING', 'SHIPPED')"


class _Found(msgspec.Struct, frozen=True):
    id: UUID


async def _ids(models: ReadModels, query: str, **values: object) -> list[UUID]:
    return [row.id for row in (await models.rows(_Found, query, **values)).value]


async def games(models: ReadModels, seller_id: UUID) -> list[UUID]:
    """A seller's games that are on sale, or were taken off sale with the account."""
    query = "SELECT g.game_id AS id FROM {games} g WHERE g.seller_id = %(id)s AND g.status IN ('ACTIVE', 'SUSPENDED')"
    return await _ids(models, query, id=seller_id)


async def unpaid_orders(models: ReadModels, user_id: UUID) -> list[UUID]:
    """Orders that await their payment: the person's own, and those with a line that the person sells."""
    sold = '[{"seller_id": "' + str(user_id) + '"}]'
    query = (
        "SELECT o.order_id AS id FROM {orders} o"
        " WHERE o.status = 'PENDING_PAYMENT' AND (o.user_id = %(id)s OR o.lines @> %(sold)s::jsonb)"
    )
    return await _ids(models, query, id=user_id, sold=sold)


async def open_deposits(models: ReadModels, user_id: UUID) -> list[UUID]:
    """The payments of deposits that have not ended."""
    query = (
        "SELECT t.payment_id AS id FROM {transactions} t"
        " WHERE t.user_id = %(id)s AND t.type = 'deposit' AND t.status IN ('PENDING', 'PROCESSING')"
    )
    return await _ids(models, query, id=user_id)


async def unsent_shipments(models: ReadModels, seller_id: UUID) -> list[UUID]:
    """What a seller is to send, or may have to once it is paid."""
    query = (
        "SELECT s.shipment_id AS id FROM {shipments} s"
        " WHERE s.seller_id = %(id)s AND s.status IN ('PENDING', 'PROCESSING') ORDER BY s.created_position"
    )
    return await _ids(models, query, id=seller_id)


async def shipments_on_their_way(models: ReadModels, user_id: UUID) -> list[UUID]:
    """What has not arrived yet of what a seller is to send, be it paid or not, and of what a buyer has paid."""
    sent = f"SELECT s.shipment_id AS id FROM {{shipments}} s WHERE s.seller_id = %(id)s AND s.status IN {_ON_ITS_WAY}"
    awaited = (
        "SELECT s.shipment_id AS id FROM {orders} o JOIN {shipments} s ON s.order_id = o.order_id"
        f" WHERE o.user_id = %(id)s AND NOT s.provisional AND s.status IN {_ON_ITS_WAY}"
    )
    return await _ids(models, f"{sent} UNION {awaited}", id=user_id)


async def orders_in_suspense(models: ReadModels, user_id: UUID) -> list[UUID]:
    """A buyer's orders that are unpaid, or from which money may be on its way back."""
    query = (
        "SELECT o.order_id AS id FROM {orders} o JOIN {payments} p ON p.payment_id = o.payment_id"
        f" WHERE o.user_id = %(id)s AND (o.status = 'PENDING_PAYMENT' OR ({_REFUND_ASKED}))"
    )
    return await _ids(models, query, id=user_id)


async def deposits_in_suspense(models: ReadModels, user_id: UUID) -> list[UUID]:
    """A person's deposits that have not ended, or from which money may be on its way back."""
    query = (
        "SELECT t.transaction_id AS id FROM {transactions} t JOIN {payments} p ON p.payment_id = t.payment_id"
        f" WHERE t.user_id = %(id)s AND t.type = 'deposit' AND (t.status IN ('PENDING', 'PROCESSING')"
        f" OR p.status IN {_OPEN_PAYMENT} OR ({_REFUND_ASKED}))"
    )
    return await _ids(models, query, id=user_id)


async def transfers_in_suspense(models: ReadModels, user_id: UUID) -> list[UUID]:
    """Transfers from a person's wallets that have not ended."""
    query = (
        "SELECT t.transaction_id AS id FROM {transactions} t"
        " WHERE t.user_id = %(id)s AND t.type = 'transfer' AND t.status IN ('PENDING', 'PROCESSING')"
    )
    return await _ids(models, query, id=user_id)


async def wallets(models: ReadModels, user_id: UUID) -> list[UUID]:
    """A person's wallets."""
    return await _ids(models, "SELECT w.wallet_id AS id FROM {wallets} w WHERE w.user_id = %(id)s", id=user_id)


async def admins(models: ReadModels) -> list[UUID]:
    """The accounts of type ADMIN that are open, the oldest first."""
    query = (
        "SELECT u.user_id AS id FROM {users} u WHERE u.account_type = 'ADMIN'"
        " AND u.status IN ('PENDING_VERIFICATION', 'ACTIVE') ORDER BY u.created_position"
    )
    return await _ids(models, query)
