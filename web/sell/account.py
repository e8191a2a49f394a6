"""What the shop owes the seller, and the entries that it is made of."""

from starlette.responses import Response

from web.api_client import Problem
from web.sell.access import desk_router, seller_of
from web.sell.answers import Account, Balance
from web.visit import Visit

router = desk_router()

PER_PAGE = 25


@router.get("/sell/account")
async def show_account(visit: Visit) -> Response:
    """The seller's payable account: its balances, and its entries, latest first."""
    account = await payable(visit, limit=PER_PAGE, cursor=visit.query("cursor") or None)
    return visit.page("sell/account.html", fragment="entries", account=account)


async def payable(visit: Visit, *, limit: int, cursor: str | None = None) -> Account:
    """The seller's payable account, which is empty until something is sold."""
    account_id = f"SELLER_PAYABLE:{seller_of(visit)}"
    path = f"/api/v1/ledger/accounts/{account_id}"
    try:
        return await visit.api.get(path, Account, limit=limit, cursor=cursor)
    except Problem as problem:
        if problem.code != "account_not_found":
            raise
        return Account(account_id, [], [], None)


async def balances(visit: Visit) -> list[Balance]:
    """What the shop owes the seller, in each currency."""
    return (await payable(visit, limit=1)).balances
