"""Transactions: deposits into wallets, transfers between wallets, payments of orders from
wallets."""

from functools import partial
from typing import Any, get_args
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from pydantic import AliasPath, Field
from starlette.responses import Response

from api.answers import Prefer, answer, page_answer, position_of
from api.auth import SignedIn
from api.fields import Amount, Answer, Body, Currency, Page, Time
from api.idempotency import Idempotency, recorded_id
from api.problems import Problem, problem_response
from api.reading import Cursor, Limit, Reads, found
from api.services import Services, ServicesOf
from api.views.payments import PaymentMethod
from commands.aggregates import TRANSACTION, WALLET
from commands.caller import Caller, not_yours
from commands.handler import CommandResult
from commands.transactions import TransactionAndPayment
from domain.payments import Method
from domain.payments.remedies import in_words, remedies
from domain.transactions import Status, Transaction, Type
from eventstore.log import IdempotencyKey
from queries.money import transactions as transactions_query

router = APIRouter(prefix="/api/v1", tags=["transactions"])

FIELDS: dict[Type, tuple[set[str], set[str]]] = {
    "deposit": ({"to_wallet_id"}, {"payment_method"}),
    "transfer": ({"from_wallet_id", "to_wallet_id"}, set()),
    "payment": ({"from_wallet_id", "order_id"}, set()),
}
"""For each type, the fields it requires and those it may have."""

assert FIELDS.keys() == set(get_args(Type))


# -- request bodies --------------------------------------------------------------------------------


class NewTransaction(Body):
    """A transaction to start.

    A deposit names the target wallet and, now or later (see `client_secret`), a payment method. A
    transfer names both wallets. A payment names the wallet and the order.
    """

    type: Type
    amount_cents: Amount
    currency: Currency
    from_wallet_id: UUID | None = None
    to_wallet_id: UUID | None = None
    order_id: UUID | None = None
    payment_method: PaymentMethod | None = None

    def method(self) -> Method | None:
        """The payment method of a deposit, if any."""
        return self.payment_method.method() if self.payment_method else None

    def check_fields(self) -> None:
        """Raises RequestValidationError unless the body has the fields of its type, and no
        others."""
        needed, possible = FIELDS[self.type]
        named = {
            name
            for required, more in FIELDS.values()
            for name in required | more
            if getattr(self, name)
        }
        errors = [
            *(
                _error(name, "missing", f"required for a {self.type}")
                for name in sorted(needed - named)
            ),
            *(
                _error(name, "unexpected", f"not allowed for a {self.type}")
                for name in sorted(named - needed - possible)
            ),
        ]
        if errors:
            raise RequestValidationError(errors)


def _error(field: str, code: str, message: str) -> dict[str, Any]:
    return {"type": code, "loc": ("body", field), "msg": message}


# -- answers ---------------------------------------------------------------------------------------


class TransactionView(Answer):
    """A transaction. `status` is PENDING, PROCESSING, COMPLETED or FAILED.

    A failed one has the `step` that failed (charge, deduct or credit), the reason's `code`, and in
    `refunded_cents` what was deducted and returned. `reversed_cents` is what the provider took back
    from a completed deposit.
    """

    id: UUID = Field(validation_alias=AliasPath("transaction_id"))
    transaction_id: UUID
    user_id: UUID
    type: str
    status: str
    amount_cents: int
    currency: str
    from_wallet_id: UUID | None
    to_wallet_id: UUID | None
    order_id: UUID | None
    payment_id: UUID | None
    step: str | None
    code: str | None
    refunded_cents: int
    reversed_cents: int


class StartedTransaction(TransactionView):
    """The state of a new transaction. The payer of a deposit continues at `redirect_url`, or with
    `client_secret`."""

    redirect_url: str | None
    client_secret: str | None


class DatedTransaction(TransactionView):
    """A transaction with its dates."""

    created_at: Time
    updated_at: Time


# -- commands --------------------------------------------------------------------------------------


@router.post("/transactions", status_code=201, response_model=StartedTransaction)
async def create_transaction(
    body: NewTransaction,
    request: Request,
    services: ServicesOf,
    caller: SignedIn,
    idempotency: Idempotency,
    prefer: Prefer,
) -> Response:
    """Start a deposit, a transfer or a payment from a wallet. Errors: 409 `insufficient_funds`,
    `currency_mismatch`, `recipient_closed`; 400 `transaction_failed`, with the returned amount, if
    it fails while the request waits."""
    body.check_fields()
    method = body.method()

    async def reply(result: CommandResult[UUID]) -> Response:
        transaction_id = result.value
        now = await services.commands.transactions.when_ready(transaction_id, prefer.wait_seconds)
        if prefer.asynchronous:
            position = await position_of(result, services)
        elif now.transaction.is_immutable:  # this process has seen its last event
            position = max(result.position or 0, services.log.history.mark.position)
        else:
            position = await services.log.head()
        if now.transaction.status == "FAILED":
            return _failed(request, transaction_id, now.transaction, position)
        headers = {"Location": f"/api/v1/transactions/{transaction_id}", **prefer.headers}
        view = _started(services, caller, transaction_id, now)
        return answer(view, status=prefer.status, position=position, headers=headers)

    return await idempotency.answer(
        lambda once: _start(services, caller, body, method, once),
        recorded_id("transaction_id"),
        reply,
        one_append=True,
    )


async def _start(
    services: Services,
    caller: Caller,
    body: NewTransaction,
    method: Method | None,
    once: IdempotencyKey | None,
) -> CommandResult[UUID]:
    transactions, source, target, order = (
        services.commands.transactions,
        body.from_wallet_id,
        body.to_wallet_id,
        body.order_id,
    )
    amount = (body.amount_cents, body.currency)
    if body.type == "deposit" and target is not None:
        return await transactions.deposit(caller, target, *amount, method, once=once)
    if body.type == "transfer" and source is not None and target is not None:
        return await transactions.transfer(caller, source, target, *amount, once=once)
    assert source is not None
    assert order is not None
    return await transactions.pay(caller, source, order, *amount, once=once)


def _started(
    services: Services, caller: Caller, transaction_id: UUID, now: TransactionAndPayment
) -> StartedTransaction:
    transaction, payment = now.transaction, now.payment
    redirect_url = client_secret = None
    if (
        payment is not None
        and transaction.payment_id is not None
        and caller.user_id == payment.buyer_id
    ):
        redirect_url = payment.redirect_url
        if payment.can_be_tried:
            client_secret = services.commands.payments.client_secret(
                transaction.payment_id, payment.client_secret_ref
            )
    return StartedTransaction(
        transaction_id=transaction_id,
        user_id=transaction.user_id,
        type=transaction.type,
        status=transaction.status,
        amount_cents=transaction.amount_cents,
        currency=transaction.currency,
        from_wallet_id=transaction.from_wallet_id,
        to_wallet_id=transaction.to_wallet_id,
        order_id=transaction.order_id,
        payment_id=transaction.payment_id,
        step=transaction.step,
        code=transaction.code,
        refunded_cents=transaction.refunded_cents,
        reversed_cents=transaction.reversed_cents,
        redirect_url=redirect_url,
        client_secret=client_secret,
    )


def _failed(
    request: Request, transaction_id: UUID, transaction: Transaction, position: int
) -> Response:
    """400: the transaction failed; at which step, why, how much was returned and, of a card that
    was not charged, what the payer can try."""
    detail = f"the {transaction.type} failed at the step {transaction.step}: {transaction.code}"
    tries = remedies(transaction.code, is_deposit=True) if transaction.step == "charge" else ()
    problem = Problem(
        400,
        "transaction_failed",
        f"{detail}. {in_words(tries)}" if tries else detail,
        headers={"Event-Position": str(position)},
        transaction_id=transaction_id,
        payment_id=transaction.payment_id,
        step=transaction.step,
        failure_code=transaction.code,
        amount_cents=transaction.amount_cents,
        refunded_cents=transaction.refunded_cents,
        currency=transaction.currency,
        try_next=list(tries),
    )
    return problem_response(problem, request.scope)


# -- queries ---------------------------------------------------------------------------------------


@router.get("/transactions", response_model=Page[DatedTransaction])
async def list_transactions(
    request: Request,
    reads: Reads,
    caller: SignedIn,
    status: Status | None = None,
    user_id: UUID | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List the caller's transactions, newest first. An ADMIN sees everybody's, or one user's."""
    if user_id is None and not caller.sees_all:
        user_id = caller.user_id
    if user_id is not None:
        caller.must_act_for(user_id, "transactions")
    page = await transactions_query.transactions(
        reads, user_id=user_id, status=status, limit=limit, cursor=cursor
    )
    return page_answer(request, Page[DatedTransaction].model_validate(page.value), page.position)


@router.get("/transactions/{transaction_id}", response_model=DatedTransaction)
async def get_transaction(
    transaction_id: UUID, services: ServicesOf, reads: Reads, caller: SignedIn
) -> Response:
    """Return a transaction (its owner, the owner of its target wallet, ADMIN)."""
    transaction, position = await found(
        services,
        reads,
        lambda models: transactions_query.transaction(models, transaction_id),
        TRANSACTION.missing,
        partial(transactions_query.transaction_as_of, services.log, transaction_id),
    )
    if not (caller.audits or caller.may_act_for(transaction.user_id)):
        target = transaction.to_wallet_id
        wallet = None if target is None else await services.repository.cached(WALLET, target)
        if wallet is None or wallet.user_id != caller.user_id:
            raise not_yours("transaction")
    return answer(DatedTransaction.model_validate(transaction), position=position)
