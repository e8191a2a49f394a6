"""Wallets: opening them, reading them and their statements, and an ADMIN's changes."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import AliasPath, Field
from starlette.responses import Response

from api.answers import answer, page_answer, position_of, versioned
from api.auth import Admin, SignedIn
from api.fields import Amount, Answer, Body, Currency, Page, Reason, Time
from api.idempotency import Idempotency, Idempotent, no_result, recorded_id
from api.reading import Cursor, Limit, Reads, found
from api.services import Services, ServicesOf
from commands.aggregates import WALLET
from commands.caller import Caller
from commands.handler import CommandResult
from domain.wallets import Status as WalletStatus
from projections.models.wallets import MovementType, Wallet
from queries.engine.read_models import ReadModels
from queries.money import wallets as wallets_query

router = APIRouter(prefix="/api/v1", tags=["wallets"])


# -- request bodies --------------------------------------------------------------------------------


class NewWallet(Body):
    """The currency of the wallet to open. A user has at most one wallet in each."""

    currency: Currency


class Reasoned(Body):
    """An operator's reason."""

    reason: Reason


class Adjustment(Body):
    """An amount that an operator adds or deducts, and the reason."""

    amount_cents: Amount
    reason: Reason


# -- answers ---------------------------------------------------------------------------------------


class WalletView(Answer):
    """A wallet. `wallet_id` repeats `id` under the name that other resources use.

    `status` is ACTIVE, INACTIVE or FROZEN. Nothing can be spent from a FROZEN wallet until incoming
    money has settled `owed_cents`.
    """

    id: UUID = Field(validation_alias=AliasPath("wallet_id"))
    wallet_id: UUID
    user_id: UUID
    currency: str
    balance_cents: int
    owed_cents: int
    status: str
    version: int


class DatedWallet(WalletView):
    """A wallet with its dates."""

    created_at: Time
    updated_at: Time


class MovementView(Answer):
    """A line of a wallet's statement. `direction` is credit (in) or debit (out), `balance_cents`
    the balance after the movement, `position` the position in the log."""

    position: int
    type: MovementType
    direction: str
    amount_cents: int
    currency: str
    balance_cents: int
    transaction_id: UUID | None
    payment_id: UUID | None
    reason: str | None
    at: Time


# -- commands --------------------------------------------------------------------------------------


@router.post("/wallets", status_code=201, response_model=WalletView)
async def create_wallet(
    body: NewWallet, services: ServicesOf, caller: SignedIn, idempotency: Idempotency
) -> Response:
    """Open a wallet in a currency. Errors: 409 `wallet_exists`."""

    async def reply(result: CommandResult[UUID]) -> Response:
        position = await position_of(result, services)
        return await _wallet_now(services, result.value, position, status=201)

    return await idempotency.answer(
        lambda once: services.commands.wallets.create(caller, body.currency, once=once),
        recorded_id("wallet_id"),
        reply,
    )


@router.post("/wallets/{wallet_id}/deactivate", response_model=WalletView)
async def deactivate_wallet(
    wallet_id: UUID, body: Reasoned, services: ServicesOf, caller: Admin, idempotency: Idempotency
) -> Response:
    """Deactivate a wallet, so that no money moves in or out. Requires ADMIN. Errors: 409
    `wallet_inactive`."""
    command = partial(services.commands.wallets.deactivate, caller, wallet_id, body.reason)
    return await _changed(services, wallet_id, idempotency, command)


@router.post("/wallets/{wallet_id}/reactivate", response_model=WalletView)
async def reactivate_wallet(
    wallet_id: UUID, body: Reasoned, services: ServicesOf, caller: Admin, idempotency: Idempotency
) -> Response:
    """Reactivate a wallet. Requires ADMIN. Errors: 409 `wallet_active`."""
    command = partial(services.commands.wallets.reactivate, caller, wallet_id, body.reason)
    return await _changed(services, wallet_id, idempotency, command)


@router.post("/wallets/{wallet_id}/add-funds", response_model=WalletView)
async def add_funds(
    wallet_id: UUID, body: Adjustment, services: ServicesOf, caller: Admin, idempotency: Idempotency
) -> Response:
    """Adjust the balance upwards. Requires ADMIN. Errors: 409 `wallet_inactive`."""
    command = partial(
        services.commands.wallets.add_funds, caller, wallet_id, body.amount_cents, body.reason
    )
    return await _changed(services, wallet_id, idempotency, command)


@router.post("/wallets/{wallet_id}/deduct-funds", response_model=WalletView)
async def deduct_funds(
    wallet_id: UUID, body: Adjustment, services: ServicesOf, caller: Admin, idempotency: Idempotency
) -> Response:
    """Adjust the balance downwards. Requires ADMIN. Errors: 409 `insufficient_funds` with
    `balance_cents`, `wallet_inactive`."""
    command = partial(
        services.commands.wallets.deduct_funds, caller, wallet_id, body.amount_cents, body.reason
    )
    return await _changed(services, wallet_id, idempotency, command)


async def _changed(
    services: Services,
    wallet_id: UUID,
    idempotency: Idempotent,
    command: Callable[..., Awaitable[CommandResult[None]]],
) -> Response:
    """Run the command, which still takes `once`, and reply with the wallet."""

    async def reply(result: CommandResult[None]) -> Response:
        return await _wallet_now(services, wallet_id, await position_of(result, services))

    return await idempotency.answer(lambda once: command(once=once), no_result, reply)


async def _wallet_now(
    services: Services, wallet_id: UUID, position: int, status: int = 200
) -> Response:
    """The wallet after the command, from the log: the read model may not have reached it yet."""
    version, wallet = await services.repository.get_versioned(WALLET, wallet_id)
    view = WalletView(
        wallet_id=wallet_id,
        user_id=wallet.user_id,
        currency=wallet.currency,
        balance_cents=wallet.balance_cents,
        owed_cents=wallet.owed_cents,
        status=wallet.status,
        version=version,
    )
    headers = {"Location": f"/api/v1/wallets/{wallet_id}"} if status == 201 else None
    return answer(view, status=status, position=position, version=version, headers=headers)


# -- queries ---------------------------------------------------------------------------------------


@router.get("/wallets", response_model=Page[DatedWallet])
async def list_wallets(
    request: Request,
    reads: Reads,
    caller: Admin,  # noqa: ARG001 - declares who may call
    user_id: UUID | None = None,
    status: WalletStatus | None = None,
    currency: Annotated[Currency | None, Query()] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List all wallets, newest first; with `status=FROZEN`, those whose owners owe money. Requires
    ADMIN."""
    page = await wallets_query.wallets(
        reads, user_id=user_id, status=status, currency=currency, limit=limit, cursor=cursor
    )
    return page_answer(request, Page[DatedWallet].model_validate(page.value), page.position)


@router.get("/wallets/me", response_model=DatedWallet | Page[DatedWallet])
async def my_wallets(
    request: Request,
    services: ServicesOf,
    reads: Reads,
    caller: SignedIn,
    currency: Annotated[
        Currency | None, Query(description="Return only the wallet in this currency.")
    ] = None,
) -> Response:
    """Return a list of the caller's wallets or, with `currency`, the one wallet in that currency.
    Errors: 404 `wallet_not_found`."""
    owner = caller.person()
    if currency is None:
        mine = await wallets_query.wallets_of(reads, owner)
        return answer(
            Page[DatedWallet].model_validate({"items": mine.value}), position=mine.position
        )
    wallet, position = await found(
        services,
        reads,
        lambda models: wallets_query.wallet_in(models, owner, currency),
        WALLET.missing,
    )
    return versioned(
        request, DatedWallet.model_validate(wallet), position=position, version=wallet.version
    )


@router.get("/wallets/{wallet_id}", response_model=DatedWallet)
async def get_wallet(
    wallet_id: UUID,
    request: Request,
    services: ServicesOf,
    reads: Reads,
    caller: SignedIn,
) -> Response:
    """Return a wallet (its owner, ADMIN). With `as_of`, an AUDITOR or ADMIN sees it at a past
    moment."""
    wallet, position = await _owned(services, reads, caller, wallet_id)
    return versioned(
        request, DatedWallet.model_validate(wallet), position=position, version=wallet.version
    )


@router.get("/wallets/{wallet_id}/statement", response_model=Page[MovementView])
async def get_statement(
    wallet_id: UUID,
    request: Request,
    services: ServicesOf,
    reads: Reads,
    caller: SignedIn,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List the movements of a wallet, latest first (its owner, ADMIN)."""
    await _owned(services, reads, caller, wallet_id)
    page = await wallets_query.statement(reads, wallet_id, limit=limit, cursor=cursor)
    return page_answer(request, Page[MovementView].model_validate(page.value), page.position)


async def _owned(
    services: Services, reads: ReadModels, caller: Caller, wallet_id: UUID
) -> tuple[Wallet, int]:
    wallet, position = await found(
        services,
        reads,
        lambda models: wallets_query.wallet(models, wallet_id),
        WALLET.missing,
        partial(wallets_query.wallet_as_of, services.log, wallet_id),
    )
    caller.must_act_for(wallet.user_id, "wallet")
    return wallet, position
