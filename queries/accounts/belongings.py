"""The ids of what belongs to an account. Every query names columns as the indexes do."""

from uuid import UUID

import msgspec

from queries.engine.read_models import ReadModels


class _Found(msgspec.Struct, frozen=True):
    id: UUID


async def _ids(models: ReadModels, query: str, **values: object) -> list[UUID]:
    return [row.id for row in (await models.rows(_Found, query, **values)).value]


_GAMES = """
SELECT game_id AS id FROM @games WHERE seller_id = %(id)s AND status IN ('ACTIVE', 'SUSPENDED')
"""


async def games(models: ReadModels, seller_id: UUID) -> list[UUID]:
    """A seller's games that are on sale or suspended."""
    return await _ids(models, _GAMES, id=seller_id)


_UNPAID_ORDERS = """
SELECT order_id AS id FROM @orders
WHERE status = 'PENDING_PAYMENT' AND (user_id = %(id)s OR lines @> %(sold)s::jsonb)
"""


async def unpaid_orders(models: ReadModels, user_id: UUID) -> list[UUID]:
    """Unpaid orders: the person's own, and those with a line that the person sells."""
    return await _ids(
        models, _UNPAID_ORDERS, id=user_id, sold='[{"seller_id": "' + str(user_id) + '"}]'
    )


_OPEN_DEPOSITS = """
SELECT payment_id AS id FROM @transactions
WHERE user_id = %(id)s AND type = 'deposit' AND status IN ('PENDING', 'PROCESSING')
"""


async def open_deposits(models: ReadModels, user_id: UUID) -> list[UUID]:
    """The payments of deposits that have not ended."""
    return await _ids(models, _OPEN_DEPOSITS, id=user_id)


_UNSENT_SHIPMENTS = """
SELECT shipment_id AS id FROM @shipments
WHERE seller_id = %(id)s AND status IN ('PENDING', 'PROCESSING')
ORDER BY created_position
"""


async def unsent_shipments(models: ReadModels, seller_id: UUID) -> list[UUID]:
    """Shipments that a seller has to send, or will once they are paid."""
    return await _ids(models, _UNSENT_SHIPMENTS, id=seller_id)


_SHIPMENTS_ON_THEIR_WAY = """
SELECT shipment_id AS id FROM @shipments
WHERE seller_id = %(id)s AND status IN ('PENDING', 'PROCESSING', 'SHIPPED')
UNION
SELECT s.shipment_id FROM @orders o JOIN @shipments s ON s.order_id = o.order_id
WHERE o.user_id = %(id)s AND NOT s.provisional AND s.status IN ('PENDING', 'PROCESSING', 'SHIPPED')
"""


async def shipments_on_their_way(models: ReadModels, user_id: UUID) -> list[UUID]:
    """Undelivered shipments: of a seller, paid or not; of a buyer, paid ones."""
    return await _ids(models, _SHIPMENTS_ON_THEIR_WAY, id=user_id)


_ORDERS_IN_SUSPENSE = """
SELECT o.order_id AS id FROM @orders o JOIN @payments p ON p.payment_id = o.payment_id
WHERE o.user_id = %(id)s AND (
    o.status = 'PENDING_PAYMENT'
    OR p.history @> '[{"name": "payment.refund_requested.v1"}]'::jsonb AND p.status <> 'REFUNDED'
)
"""


async def orders_in_suspense(models: ReadModels, user_id: UUID) -> list[UUID]:
    """A buyer's orders that are unpaid, or may be under refund."""
    return await _ids(models, _ORDERS_IN_SUSPENSE, id=user_id)


_DEPOSITS_IN_SUSPENSE = """
SELECT t.transaction_id AS id FROM @transactions t JOIN @payments p ON p.payment_id = t.payment_id
WHERE t.user_id = %(id)s AND t.type = 'deposit' AND (
    t.status IN ('PENDING', 'PROCESSING')
    OR p.status IN ('REQUESTED', 'PROCESSING', 'REQUIRES_ACTION')
    OR p.history @> '[{"name": "payment.refund_requested.v1"}]'::jsonb AND p.status <> 'REFUNDED'
)
"""


async def deposits_in_suspense(models: ReadModels, user_id: UUID) -> list[UUID]:
    """A person's deposits that have not ended, or may be under refund."""
    return await _ids(models, _DEPOSITS_IN_SUSPENSE, id=user_id)


_TRANSFERS_IN_SUSPENSE = """
SELECT transaction_id AS id FROM @transactions
WHERE user_id = %(id)s AND type = 'transfer' AND status IN ('PENDING', 'PROCESSING')
"""


async def transfers_in_suspense(models: ReadModels, user_id: UUID) -> list[UUID]:
    """Transfers from a person's wallets that have not ended."""
    return await _ids(models, _TRANSFERS_IN_SUSPENSE, id=user_id)


async def wallets(models: ReadModels, user_id: UUID) -> list[UUID]:
    """A person's wallets."""
    return await _ids(
        models, "SELECT wallet_id AS id FROM @wallets WHERE user_id = %(id)s", id=user_id
    )


_ADMINS = """
SELECT user_id AS id FROM @users
WHERE account_type = 'ADMIN' AND status IN ('PENDING_VERIFICATION', 'ACTIVE')
ORDER BY created_position
"""


async def admins(models: ReadModels) -> list[UUID]:
    """The open accounts of type ADMIN, the oldest first."""
    return await _ids(models, _ADMINS)
