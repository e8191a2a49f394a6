"""Closing and reopening accounts."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from api.account_ids import AccountId
from api.answers import ExpectedVersion, answer, position_of
from api.auth import Admin, Oneself
from api.fields import REASON, Body, Reason, SingleLine
from api.idempotency import Idempotency
from api.services import ServicesOf
from api.views.accounts import Account
from commands.aggregates import USER
from commands.handler import CommandResult
from domain.identity import User
from eventstore.log import IdempotencyRecord

router = APIRouter(prefix="/api/v1", tags=["identity"])


class Reopening(Body):
    """Why the account is reopened."""

    reason: SingleLine | None = Field(
        default=None, description="Recorded in the log, for auditors."
    )


@router.delete("/users/{user_id}", status_code=204)
async def close_account(
    user_id: AccountId,
    services: ServicesOf,
    caller: Oneself,
    expected_version: ExpectedVersion,
    forget: bool = False,
    reason: Annotated[Reason | None, Query(description=REASON)] = None,
) -> Response:
    """Close an account (its owner, ADMIN). Its sessions end, its games go off sale, its cart,
    unpaid orders and open deposits are cancelled, and payments that arrive later are refunded.
    Errors: 409 `last_admin`.

    An ADMIN's `reason` for closing another's account is recorded with it.

    With `forget`, its personal data also becomes unreadable, everywhere and for good. 409
    `account_has_obligations` lists what must be settled first as `obligations: [{kind, id, …}]`;
    nothing is changed then.
    """
    result = await services.commands.account_ends.close(
        caller, user_id, forget=forget, reason=reason, expected_version=expected_version
    )
    await services.session_ends.reached(result.position)
    return answer(None, status=204, position=await position_of(result, services))


@router.post("/users/{user_id}/reopen", response_model=Account)
async def reopen_account(
    user_id: UUID,
    services: ServicesOf,
    caller: Admin,
    idempotency: Idempotency,
    body: Reopening | None = None,
) -> Response:
    """Reopen a closed account, and put its games back on sale. Requires ADMIN. Errors: 409
    `account_active`, `account_forgotten`."""
    reason = None if body is None else body.reason

    async def again(done: IdempotencyRecord) -> User:
        return await services.repository.get(USER, UUID(done.result_ids["user_id"]))

    async def reply(result: CommandResult[User]) -> Response:
        return answer(
            Account.model_validate(result.value), position=await position_of(result, services)
        )

    return await idempotency.answer(
        lambda once: services.commands.account_ends.reopen(caller, user_id, reason, once=once),
        again,
        reply,
    )
