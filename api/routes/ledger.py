"""The ledger: accounts and their entries, ledger transactions, the trial balance."""

from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request
from pydantic import AliasPath, Field
from starlette.responses import Response

from api.answers import answer, page_answer
from api.auth import Admin, Auditor, Seller
from api.fields import Answer, Currency, Page, Time
from api.reading import AsOf, Cursor, Limit, Reads, found
from api.services import ServicesOf
from commands.caller import Caller, not_yours
from domain.errors import NotFound
from domain.ledger import seller_account
from queries.engine.paging import Page as FoundPage
from queries.engine.read_models import QueryResult, ReadModels
from queries.money import ledger as ledger_query
from queries.money.ledger import LedgerAccount

router = APIRouter(prefix="/api/v1", tags=["ledger"])


def no_account() -> NotFound:
    """The error for an account that is not in the ledger."""
    return NotFound("account_not_found", "there is no such account, or none in this currency")


# -- answers ---------------------------------------------------------------------------------------


class BalanceView(Answer):
    """An account's totals in a currency. The balance is credits minus debits."""

    currency: str | None
    debits_cents: int
    credits_cents: int
    balance_cents: int


class AccountView(BalanceView):
    """An account in one currency. The currency is null until something is posted to the account."""

    id: str = Field(validation_alias=AliasPath("account_id"))
    opened_at: Time
    updated_at: Time


class EntryView(Answer):
    """An entry: the `number`th of its ledger transaction, from 0. `cause_event_id` is the event
    that caused it, `position` that event's position in the log. `transaction_id` is the wallet
    transaction it belongs to, if any."""

    ledger_transaction_id: UUID
    number: int
    account_id: str
    direction: str
    amount_cents: int
    currency: str
    cause_event_id: UUID
    order_id: UUID | None
    payment_id: UUID | None
    transaction_id: UUID | None
    position: int
    at: Time


class AccountPage(Page[EntryView], AccountView):
    """An account in one currency, its `balances` in all currencies, and a page of its entries."""

    balances: list[BalanceView]


class PostedEntry(Answer):
    account_id: str
    direction: str
    amount_cents: int
    currency: str


class LedgerTransactionView(Answer):
    """The entries that one event caused. Debits equal credits in each currency."""

    id: UUID = Field(validation_alias=AliasPath("ledger_transaction_id"))
    cause_event_id: UUID
    order_id: UUID | None
    payment_id: UUID | None
    transaction_id: UUID | None
    position: int
    at: Time
    entries: list[PostedEntry]


class TrialBalance(Answer):
    """The totals of all accounts, by currency. `balanced` is true if every balance is 0."""

    balanced: bool
    items: list[BalanceView]


# -- queries ---------------------------------------------------------------------------------------


@router.get("/ledger/accounts", response_model=Page[AccountView])
async def list_accounts(
    request: Request, reads: Reads, caller: Seller, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """List all accounts, with one item per currency (ADMIN), or a seller's own payable account
    (SELLER)."""
    if not caller.sees_all:
        own = await ledger_query.account(reads, _own_account(caller))
        page = own.map(lambda rows: FoundPage(rows, None))
    else:
        page = await ledger_query.accounts(reads, limit=limit, cursor=cursor)
    return page_answer(request, Page[AccountView].model_validate(page.value), page.position)


@router.get("/ledger/accounts/{account_id}", response_model=AccountPage)
async def get_account(
    account_id: Annotated[str, Path(max_length=200)],
    request: Request,
    services: ServicesOf,
    reads: Reads,
    caller: Seller,
    currency: Annotated[
        Currency | None, Query(description="Return only the balance and entries in this currency.")
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Return an account and its entries, latest first (ADMIN; a seller's own payable account,
    SELLER). Without `currency`, the balance is the one in the account's first currency, and the
    entries are those in all."""
    if not caller.sees_all and account_id != _own_account(caller):
        raise not_yours("account")

    async def ask(
        models: ReadModels,
    ) -> QueryResult[tuple[LedgerAccount, list[LedgerAccount]] | None]:
        found = await ledger_query.account(models, account_id)
        return found.map(
            lambda rows: next(
                ((each, rows) for each in rows if currency in {None, each.currency}), None
            )
        )

    (account, all_of_it), position = await found(services, reads, ask, no_account)
    page = await ledger_query.entries(
        reads, account_id, currency=currency, limit=limit, cursor=cursor
    )
    view = AccountPage(
        **AccountView.model_validate(account).model_dump(exclude={"id"}),
        account_id=account_id,
        balances=[
            BalanceView.model_validate(each) for each in all_of_it if each.currency is not None
        ],
        items=[EntryView.model_validate(each) for each in page.value.items],
        next_cursor=page.value.next_cursor,
    )
    return page_answer(request, view, min(position, page.position))


def _own_account(caller: Caller) -> str:
    """The caller's payable account."""
    return seller_account(caller.person())


@router.get("/ledger/transactions", response_model=Page[LedgerTransactionView])
async def list_ledger_transactions(
    request: Request, reads: Reads, _: Admin, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """List all ledger transactions, latest first. Requires ADMIN."""
    page = await ledger_query.ledger_transactions(reads, limit=limit, cursor=cursor)
    return page_answer(
        request, Page[LedgerTransactionView].model_validate(page.value), page.position
    )


@router.get("/ledger/transactions/{ledger_transaction_id}", response_model=LedgerTransactionView)
async def get_ledger_transaction(
    ledger_transaction_id: UUID, services: ServicesOf, reads: Reads, _: Admin
) -> Response:
    """Return the ledger transaction of one event. Requires ADMIN."""
    missing = partial(
        NotFound, "ledger_transaction_not_found", "there is no such ledger transaction"
    )
    posted, position = await found(
        services,
        reads,
        lambda models: ledger_query.ledger_transaction(models, ledger_transaction_id),
        missing,
    )
    return answer(LedgerTransactionView.model_validate(posted), position=position)


@router.get("/ledger/trial-balance", response_model=TrialBalance)
async def get_trial_balance(
    services: ServicesOf, reads: Reads, _: Auditor, as_of: AsOf
) -> Response:
    """Return whether debits equal credits in every currency, now or with `as_of` at a past moment.
    Requires AUDITOR or ADMIN."""
    if as_of is None:
        totals = await ledger_query.trial_balance(reads)
    else:
        totals = await ledger_query.trial_balance_as_of(services.reads, as_of)
    balanced = not any(total.balance_cents for total in totals.value)
    items = [BalanceView.model_validate(total) for total in totals.value]
    return answer(TrialBalance(balanced=balanced, items=items), position=totals.position)
