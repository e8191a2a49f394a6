"""The export of an account: all data about it in one document."""

from typing import Any
from uuid import UUID

import msgspec
from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from api.account_ids import AccountId
from api.answers import answer
from api.auth import Oneself
from api.fields import Answer
from api.reading import LogPosition, PresentReads
from api.services import Services, ServicesOf
from commands.aggregates import NOTIFICATION, ORDER, USER
from domain.ledger import receivable_account, seller_account
from eventstore.log import whole_stream
from queries.accounts import exports
from queries.accounts.exports import SECRET_FIELDS, SECRET_PARAMS, Export

router = APIRouter(prefix="/api/v1", tags=["identity"])

Document = dict[str, Any]


def _section(description: str) -> Any:
    return Field(description=description)


class AccountExport(Answer):
    """All data about an account. Each section has the fields of the resource that it lists."""

    account: Document = _section("The account, as in GET /users/{user_id}.")
    history: list[Document] = _section(
        "The account's events, logins included: name, position, time, and data (former names and"
        " addresses, too; no password)."
    )
    sessions: list[Document] = _section(
        "Sessions that have not expired: id, expiry, and whether they were ended."
    )
    orders: list[Document] = _section(
        "Orders with their lines, payment, shipments, receipts, timeline and address."
    )
    payments: list[Document] = _section("Payments of orders and deposits, with their history.")
    wallets: list[Document] = _section(
        "Wallets, with their complete statement, latest movement first."
    )
    transactions: list[Document] = _section("Deposits, transfers and payments from wallets.")
    library: list[Document] = _section("The games owned.")
    carts: list[Document] = _section("Carts, abandoned ones included.")
    notifications: list[Document] = _section(
        "Notifications with the values in their text (except tokens), and their delivery."
    )
    games: list[Document] = _section("For sellers: their games, drafts and retired ones included.")
    shipments: list[Document] = _section("For sellers: their shipments, sent or to be sent.")
    sales: list[Document] = _section(
        "For sellers: orders with the seller's own lines, without the buyer."
    )
    payables: Document = _section(
        "For sellers: what the shop owes them in each currency, with all ledger entries."
    )
    receivables: Document = _section(
        "What the account owes to the shop in each currency, with all ledger entries."
    )
    stock: list[Document] = _section("For sellers: the stock of their games that are shipped.")
    receipts: list[Document] = _section("For sellers: their fiscal receipts.")
    webhook_endpoints: list[Document] = _section(
        "For sellers: webhook endpoints, without their secrets."
    )
    webhook_deliveries: list[Document] = _section("For sellers: the deliveries to these.")


@router.get("/users/{user_id}/export", response_model=AccountExport)
async def export_account(
    user_id: AccountId, services: ServicesOf, reads: PresentReads, _: Oneself, position: LogPosition
) -> Response:
    """Export all data about an account as one document (its owner, ADMIN)."""
    found = await exports.export(
        reads.reaching(position), user_id, seller_account(user_id), receivable_account(user_id)
    )
    if found is None:
        raise USER.missing()
    sections = {**msgspec.to_builtins(found), **await _from_the_log(services, user_id, found)}
    for payment in [
        *sections["payments"],
        *(order["payment"] for order in sections["orders"] if order["payment"]),
    ]:
        del payment["client_secret"]
    headers = {
        "Cache-Control": "no-store",
        "Content-Disposition": f'attachment; filename="ludoteca-account-{user_id}.json"',
    }
    return answer(AccountExport.model_validate(sections), position=position, headers=headers)


async def _from_the_log(services: Services, user_id: UUID, found: Export) -> Document:
    """The sections that no read model has: data encrypted under the person's key, sessions, and the
    account's history."""
    repository = services.repository
    orders = []
    for order in found.orders:
        placed = await repository.rehydrate(ORDER, order.order_id)
        address = None if placed is None else placed.shipping_address
        orders.append({**msgspec.to_builtins(order), "shipping_address": address})
    notifications = []
    for row in found.notifications:
        notification = await repository.rehydrate(NOTIFICATION, row.notification_id)
        params = {} if notification is None or notification.params is None else notification.params
        public_params = {name: value for name, value in params.items() if name not in SECRET_PARAMS}
        notifications.append({**msgspec.to_builtins(row), "params": public_params})
    return {
        "orders": orders,
        "notifications": notifications,
        "sessions": await _sessions(services, user_id),
        "history": [
            {
                "name": each.env.name,
                "position": each.env.position,
                "at": msgspec.to_builtins(each.env.occurred_at),
                "data": {
                    name: value
                    for name, value in msgspec.to_builtins(each.event).items()
                    if name not in SECRET_FIELDS
                },
            }
            for each in await whole_stream(services.log, user_id)
        ],
    }


async def _sessions(services: Services, user_id: UUID) -> list[Document]:
    user = await services.repository.state(USER, user_id)
    return [
        {
            "session_id": str(session.session_id),
            "expires_at": msgspec.to_builtins(session.expires_at),
            "ended": session.revoked
            or user is None
            or not user.keeps(session.session_id, session.epoch),
        }
        for session in await services.commands.logins.sessions_of(user_id)
    ]
