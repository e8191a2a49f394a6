"""The ledger: the trial balance, accounts with their entries, and what each event posted; now, or
as of a moment."""

from datetime import datetime
from typing import TypeVar

import msgspec
from starlette.responses import Response

from web.api_client import Listed, Problem
from web.console.acting import may_act
from web.console.entering import console_router
from web.console.moments import Moment, moment_of
from web.visit import Visit

router = console_router()

PER_PAGE = 50

T = TypeVar("T")


class Balance(msgspec.Struct, frozen=True):
    """A balance is credits minus debits."""

    currency: str | None
    debits_cents: int
    credits_cents: int
    balance_cents: int


class TrialBalance(msgspec.Struct, frozen=True):
    balanced: bool
    items: list[Balance]


class Account(Balance, frozen=True, kw_only=True):
    id: str
    opened_at: datetime
    updated_at: datetime


class Posted(msgspec.Struct, frozen=True):
    account_id: str
    direction: str
    amount_cents: int
    currency: str


class Transaction(msgspec.Struct, frozen=True):
    """What one event posted."""

    id: str
    order_id: str | None
    position: int
    at: datetime
    entries: list[Posted]


class Entry(Posted, frozen=True, kw_only=True):
    ledger_transaction_id: str
    number: int
    order_id: str | None
    position: int
    at: datetime


class AccountPage(Account, frozen=True, kw_only=True):
    balances: list[Balance]
    items: list[Entry]
    next_cursor: str | None


@router.get("/console/ledger")
async def show_ledger(visit: Visit) -> Response:
    """The trial balance, and the accounts."""
    moment = moment_of(visit)
    balance = None
    try:
        balance = await visit.api.get(
            "/api/v1/ledger/trial-balance", TrialBalance, as_of=moment.as_of
        )
    except Problem as problem:
        moment.refuse(problem)
    accounts = await _page(visit, moment, "/api/v1/ledger/accounts", Listed[Account])
    return visit.page(
        "console/ledger.html",
        status=moment.status,
        moment=moment,
        balance=balance,
        accounts=accounts,
    )


@router.get("/console/ledger/accounts/{account_id}")
async def show_account(visit: Visit) -> Response:
    """An account, and its entries."""
    moment, account_id = moment_of(visit), visit.part("account_id")
    path = f"/api/v1/ledger/accounts/{account_id}"
    account = await _page(visit, moment, path, AccountPage)
    return visit.page(
        "console/account.html",
        status=moment.status,
        moment=moment,
        account_id=account_id,
        account=account,
    )


@router.get("/console/ledger/transactions")
async def show_transactions(visit: Visit) -> Response:
    """What was posted, the latest first."""
    moment = moment_of(visit)
    found = await _page(visit, moment, "/api/v1/ledger/transactions", Listed[Transaction])
    return visit.page("console/postings.html", status=moment.status, moment=moment, found=found)


async def _page(visit: Visit, moment: Moment, path: str, into: type[T]) -> T | None:
    """A page of a list as of the moment; None where that is refused, and for an AUDITOR, who reads
    accounts as of a moment only."""
    if moment.error or not (may_act(visit) or moment.as_of is not None):
        return None
    try:
        return await visit.api.get(
            path, into, as_of=moment.as_of, limit=PER_PAGE, cursor=visit.query("cursor") or None
        )
    except Problem as problem:
        moment.refuse(problem)
        return None
