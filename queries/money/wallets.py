"""Wallets and their statements."""

from datetime import datetime
from uuid import UUID

from eventstore.log import Log
from projections.as_of import shown_as_of
from projections.models.wallets import Wallet, WalletMovement, Wallets
from queries.engine.paging import ListQuery, Page, newest_first, page
from queries.engine.read_models import QueryResult, ReadModels

_WALLETS = ListQuery(Wallet, "SELECT * FROM @wallets")
_NEWEST = newest_first("created_position")

_STATEMENT = ListQuery(WalletMovement, "SELECT * FROM @wallet_movements")
_LATEST = newest_first("position")

_WALLET = "SELECT * FROM @wallets WHERE wallet_id = %(id)s"
_WALLETS_OF = "SELECT * FROM @wallets WHERE user_id = %(user)s ORDER BY currency"
_WALLET_IN = "SELECT * FROM @wallets WHERE user_id = %(user)s AND currency = %(currency)s"


async def wallet(models: ReadModels, wallet_id: UUID) -> QueryResult[Wallet | None]:
    return await models.first(Wallet, _WALLET, id=wallet_id)


async def wallets_of(models: ReadModels, user_id: UUID) -> QueryResult[list[Wallet]]:
    """A person's wallets, by currency: at most one in each."""
    return await models.rows(Wallet, _WALLETS_OF, user=user_id)


async def wallets(
    models: ReadModels,
    *,
    user_id: UUID | None = None,
    status: str | None = None,
    currency: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> QueryResult[Page[Wallet]]:
    """All wallets, the newest first. Raises BadCursor."""
    wanted: dict[str, object | None] = {"user_id": user_id, "status": status, "currency": currency}
    values = {name: value for name, value in wanted.items() if value is not None}
    conditions = [f"{name} = %({name})s" for name in values]
    return await page(models, _WALLETS, _NEWEST, conditions, values, limit=limit, cursor=cursor)


async def wallet_in(models: ReadModels, user_id: UUID, currency: str) -> QueryResult[Wallet | None]:
    """A person's wallet in a currency."""
    return await models.first(Wallet, _WALLET_IN, user=user_id, currency=currency)


async def wallet_as_of(log: Log, wallet_id: UUID, moment: int | datetime) -> Wallet | None:
    """The wallet as it was at a log position or a time."""
    return await shown_as_of(log, Wallets(), wallet_id, moment)


async def statement(
    models: ReadModels, wallet_id: UUID, *, limit: int = 50, cursor: str | None = None
) -> QueryResult[Page[WalletMovement]]:
    """A wallet's movements, the latest first. Raises BadCursor."""
    conditions = ["wallet_id = %(wallet)s"]
    return await page(
        models, _STATEMENT, _LATEST, conditions, {"wallet": wallet_id}, limit=limit, cursor=cursor
    )
