"""Accounts: registering, listing and changing them."""

from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from api.account_ids import AccountId
from api.answers import ExpectedVersion, answer, page_answer, position_of, versioned
from api.attempt_limits import Attempt, attempts_of
from api.auth import Admin, Oneself, OptionalCaller
from api.fields import Body, Email, Page, SingleLine, Text
from api.idempotency import Idempotency
from api.reading import Cursor, Limit, Reads, found
from api.services import ServicesOf
from api.views.accounts import (
    NOT_STORED,
    Account,
    DatedAccount,
    TokenPair,
    account_view,
    tokens_for,
)
from commands.aggregates import USER
from commands.caller import Caller
from commands.handler import CommandResult
from domain.email_addresses import mailbox
from domain.errors import Forbidden, Invalid
from domain.identity import DEFAULT_REGION, AccountType, Status, User
from eventstore.log import IdempotencyRecord
from kit.forgotten import ENCRYPTED
from projections.models import users as user_rows
from queries.accounts import users as users_query

router = APIRouter(prefix="/api/v1", tags=["identity"])


# -- request bodies --------------------------------------------------------------------------------


class Registration(Body):
    """A new account. Anyone can register as a BUYER or a SELLER; only an ADMIN creates accounts of
    other types."""

    email: Email
    password: Text = Field(description="At least 10 characters.")
    name: SingleLine
    account_type: AccountType = "BUYER"
    region: SingleLine = DEFAULT_REGION


class Profile(Body):
    """The changes to an account. Absent and null fields stay as they are."""

    email: Email | None = None
    password: Text | None = None
    current_password: Text | None = Field(
        None, description="Required to change the password or e-mail of one's own account."
    )
    name: SingleLine | None = None
    region: SingleLine | None = None


# -- answers ---------------------------------------------------------------------------------------


class Registered(TokenPair, Account):
    """A new account and its first session."""


# -- opening an account ----------------------------------------------------------------------------


@router.post("/users", status_code=201, response_model=Registered)
async def register(
    body: Registration,
    services: ServicesOf,
    caller: OptionalCaller,
    attempts: Attempt,
    idempotency: Idempotency,
) -> Response:
    """Create an account and open its first session. Errors: 409 `email_taken`; 422 `weak_password`,
    `invalid_email`."""
    await attempts.mail_to(body.email)

    async def again(done: IdempotencyRecord) -> User:
        return await services.commands.logins.proven(
            UUID(done.result_ids["user_id"]), body.password
        )

    async def reply(result: CommandResult[User]) -> Response:
        account = account_view(result.value)
        tokens = tokens_for(services, await services.commands.logins.open(result.value))
        made = Registered.model_validate(
            {"user_id": account.id, **account.model_dump(), **tokens.model_dump()}
        )
        headers = {"Location": f"/api/v1/users/{account.id}", **NOT_STORED}
        return answer(made, status=201, position=result.position, headers=headers)

    return await idempotency.answer(
        lambda once: services.commands.accounts.register(caller, **body.model_dump(), once=once),
        again,
        reply,
        keep=False,
    )


# -- accounts --------------------------------------------------------------------------------------


@router.get("/users", response_model=Page[DatedAccount])
async def list_users(
    request: Request,
    reads: Reads,
    caller: Admin,
    email: Annotated[str | None, Query(max_length=254)] = None,
    account_type: AccountType | None = None,
    status: Status | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List all accounts, newest first. Requires ADMIN."""
    if email is not None and caller.audits:
        raise Forbidden("role_required", "only an ADMIN may look for an address")
    page = await users_query.users(
        reads,
        mailbox=_sought(email),
        account_type=account_type,
        status=status,
        limit=limit,
        cursor=cursor,
    )
    items = [_dated(user, caller) for user in page.value.items]
    view = Page[DatedAccount](items=items, next_cursor=page.value.next_cursor)
    return page_answer(request, view, page.position)


def _sought(email: str | None) -> str | None:
    """The mailbox to look for. A text that is not an address is looked for as it is, and not
    found."""
    try:
        return None if email is None else mailbox(email)
    except Invalid:
        return email


@router.get("/users/{user_id}", response_model=DatedAccount)
async def get_user(
    user_id: AccountId, request: Request, services: ServicesOf, reads: Reads, caller: Oneself
) -> Response:
    """Return an account: the caller's own, or any for an ADMIN."""
    user, position = await found(
        services,
        reads,
        lambda models: users_query.user(models, user_id),
        USER.missing,
        partial(users_query.user_as_of, services.log, user_id),
    )
    return versioned(request, _dated(user, caller), position=position, version=user.version)


def _dated(user: user_rows.User, caller: Caller) -> DatedAccount:
    """The account; an auditor sees that there is a name and an address, not which."""
    view = DatedAccount.model_validate(user)
    if caller.audits:
        view.email, view.name = view.email and ENCRYPTED, view.name and ENCRYPTED
    return view


@router.put("/users/{user_id}", response_model=Account)
async def update_user(
    user_id: AccountId,
    body: Profile,
    request: Request,
    services: ServicesOf,
    caller: Oneself,
    expected_version: ExpectedVersion,
) -> Response:
    """Change an account. A new e-mail address must be verified.

    Changing the e-mail or password of one's own account requires `current_password` (401
    `current_password_wrong`), notifies the previous address, and ends all other sessions. Errors:
    412 if `If-Match` is stale.
    """
    attempts = attempts_of(request, services)
    if body.current_password is not None:
        await attempts.on_password(user_id)
    if body.email is not None:
        await attempts.by_client()
        await attempts.mail_to(body.email, by=user_id)
    result = await services.commands.accounts.update(
        caller, user_id, **body.model_dump(), expected_version=expected_version
    )
    await services.session_ends.reached(result.position)
    position = await position_of(result, services)
    return answer(account_view(result.value.user), position=position, version=result.value.version)
