"""Accounts and sessions."""

from contextlib import suppress
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, Response

from api.access import access_of
from api.answers import ExpectedVersion, answer, page_answer, position_of, versioned
from api.auth import EVERYBODY, Admin, Oneself, OptionalCaller, SignedIn
from api.context import context_of
from api.fields import Answer, Body, Line, Page, Text, Time, Token
from api.idempotency import IdempotencyKey, Idempotent
from api.reading import Cursor, Limit, Reads, found
from api.services import Services, ServicesOf
from api.tokens import ACCESS_LIFETIME
from commands.bus import Caller, Landed
from commands.identity import Login
from domain.errors import NotFound
from domain.identity import DEFAULT_REGION, AccountType, Status, User
from eventstore.log import AlreadyDone, Done
from queries import users as users_query

NOT_STORED = {"Cache-Control": "no-store"}

router = APIRouter(prefix="/api/v1", tags=["identity"])
well_known = APIRouter(tags=["identity"])


# -- what goes in ------------------------------------------------------------------------------------------------------


class Registration(Body):
    """A new account. Anyone may be a BUYER or a SELLER; only an ADMIN makes the others."""

    email: Line
    password: Text = Field(description="At least 10 characters.")
    name: Line
    account_type: AccountType = "BUYER"
    region: Line = DEFAULT_REGION


class Credentials(Body):
    email: Line
    password: Text


class Profile(Body):
    """What is to change; a null changes nothing."""

    email: Line | None = None
    password: Text | None = None
    name: Line | None = None
    region: Line | None = None


class RefreshToken(Body):
    refresh_token: Token


class MailedToken(Body):
    token: Token


class EmailAddress(Body):
    email: Line


class NewPassword(Body):
    token: Token
    password: Text


# -- what comes out ----------------------------------------------------------------------------------------------------


class Account(Answer):
    """An account."""

    id: UUID = Field(validation_alias="user_id")
    email: str | None
    name: str | None
    account_type: str
    region: str
    status: str
    email_verified: bool


class DatedAccount(Account):
    """An account, and since when."""

    created_at: Time
    updated_at: Time


class TokenPair(Answer):
    """What to send as Bearer for `expires_in` seconds, and what to get the next pair with."""

    access_token: str
    refresh_token: str
    token_type: str = "Bearer"  # noqa: S105 - a scheme, not a secret
    expires_in: int = int(ACCESS_LIFETIME.total_seconds())


class Registered(TokenPair, Account):
    """A new account, logged in."""


class LoggedIn(TokenPair):
    """A session."""

    user: Account


def tokens_for(services: Services, login: Login) -> TokenPair:
    """The tokens of a session's present generation."""
    user, tokens = login.user, services.tokens
    return TokenPair(
        access_token=tokens.mint_access(user.user_id, user.account_type, login.session_id),
        refresh_token=tokens.mint_refresh(login.session_id, login.generation, login.expires_at),
    )


def _account(user: User) -> Account:
    return Account.model_validate(user)


# -- sessions ----------------------------------------------------------------------------------------------------------


async def _attempt(request: Request) -> None:
    """Slow down who tries passwords or tokens."""
    limiter = request.app.state.limiter
    if limiter.on:
        await limiter.take("attempts", context_of(request.scope).client_ip)


attempt = Depends(_attempt)


@router.post("/users", status_code=201, response_model=Registered)
async def register(
    body: Registration, services: ServicesOf, caller: OptionalCaller, idempotency: IdempotencyKey
) -> Response:
    """Open an account, and a session with it. 409 `email_taken`; 422 `weak_password`."""

    async def again(done: Done) -> User:
        return await services.accounts.proven(UUID(done.refs["user_id"]), body.password)

    async def reply(landed: Landed[User]) -> Response:
        account = _account(landed.value)
        tokens = tokens_for(services, await services.accounts.open_session(landed.value))
        made = Registered.model_validate({"user_id": account.id, **account.model_dump(), **tokens.model_dump()})
        headers = {"Location": f"/api/v1/users/{account.id}", **NOT_STORED}
        return answer(made, status=201, position=landed.position, headers=headers)

    return await idempotency.answer(
        lambda once: services.accounts.register(caller, **body.model_dump(), once=once), again, reply, keep=False
    )


@router.post("/auth/login", response_model=LoggedIn, dependencies=[attempt])
async def log_in(
    body: Credentials, services: ServicesOf, caller: OptionalCaller, idempotency: IdempotencyKey
) -> Response:
    """Open a session. 401 `invalid_credentials`, alike for an unknown e-mail; 403 `user_inactive`."""
    return await _log_in(body, services, caller, idempotency)


@router.post("/auth/admin/login", response_model=LoggedIn, dependencies=[attempt])
async def log_in_as_admin(
    body: Credentials, services: ServicesOf, caller: OptionalCaller, idempotency: IdempotencyKey
) -> Response:
    """Open a session of an ADMIN; 403 for others."""
    return await _log_in(body, services, caller, idempotency, only="ADMIN")


async def _log_in(
    body: Credentials,
    services: Services,
    caller: Caller,
    idempotency: Idempotent,
    only: AccountType | None = None,
) -> Response:
    """Log in; a replay gets the same session, by fresh tokens, and only to who still knows the password."""
    accounts = services.accounts

    async def again(done: Done) -> Login:
        return await accounts.login_again(UUID(done.refs["user_id"]), UUID(done.refs["session_id"]), body.password)

    async def reply(landed: Landed[Login]) -> Response:
        tokens = tokens_for(services, landed.value)
        opened = LoggedIn(**tokens.model_dump(), user=_account(landed.value.user))
        return answer(opened, position=await position_of(landed, services), headers=NOT_STORED)

    return await idempotency.answer(
        lambda once: accounts.log_in(caller, email=body.email, password=body.password, only=only, once=once),
        again,
        reply,
        keep=False,
    )


@router.post("/auth/refresh", response_model=TokenPair)
async def refresh(body: RefreshToken, services: ServicesOf, caller: OptionalCaller) -> Response:
    """Spend a refresh token for a new pair. One that was spent already closes the session: 401 `refresh_reused`."""
    token = services.tokens.read_refresh(body.refresh_token)
    landed = await services.accounts.refresh(caller, token.session_id, token.generation)
    position = await position_of(landed, services)
    return answer(tokens_for(services, landed.value), position=position, headers=NOT_STORED)


@router.post("/auth/logout", status_code=204)
async def log_out(request: Request, services: ServicesOf, _: SignedIn) -> Response:
    """Close the session that the access token is of."""
    access = access_of(request.scope, services.tokens)
    assert access is not None
    await services.accounts.log_out(access.session_id)
    return answer(None, status=204, position=await services.log.head())


@well_known.get("/.well-known/jwks.json", dependencies=[EVERYBODY])
async def keys(services: ServicesOf) -> Response:
    """The public keys of access tokens (RFC 7517)."""
    return JSONResponse(services.tokens.jwks(), headers={"Cache-Control": "public, max-age=300"})


# -- proofs by mail ----------------------------------------------------------------------------------------------------


@router.post("/auth/verify-email", status_code=204, dependencies=[attempt])
async def verify_email(
    body: MailedToken, services: ServicesOf, caller: OptionalCaller, idempotency: IdempotencyKey
) -> Response:
    """Confirm an address by the token that was mailed to it. 422 `invalid_token`."""
    return await idempotency.answer(
        lambda once: services.accounts.verify_email(caller, body.token, once=once),
        _nothing,
        lambda landed: _no_content(services, landed),
    )


async def _nothing(_: Done) -> None:
    """What a command without a result made."""


async def _no_content(services: Services, landed: Landed[None]) -> Response:
    return answer(None, status=204, position=await position_of(landed, services))


@router.post("/auth/password/forgot", status_code=202, dependencies=[attempt])
async def forgot_password(
    body: EmailAddress, services: ServicesOf, caller: OptionalCaller, idempotency: IdempotencyKey
) -> Response:
    """Mail a token to choose a new password with, if there is such an account; the answer does not tell.

    Nor does the answer to a repeat under the same Idempotency-Key, which mails nothing.
    """

    async def mail() -> None:
        with suppress(AlreadyDone):
            await services.accounts.forgot_password(caller, body.email, once=idempotency.untold)

    response = answer(None, status=202, position=await services.log.head())
    response.background = BackgroundTask(mail)
    return response


@router.post("/auth/password/reset", status_code=204, dependencies=[attempt])
async def reset_password(
    body: NewPassword, services: ServicesOf, caller: OptionalCaller, idempotency: IdempotencyKey
) -> Response:
    """Choose a new password by a mailed token; ends all sessions. 422 `invalid_token` | `weak_password`."""
    return await idempotency.answer(
        lambda once: services.accounts.reset_password(caller, body.token, body.password, once=once),
        _nothing,
        lambda landed: _no_content(services, landed),
    )


# -- accounts ----------------------------------------------------------------------------------------------------------


@router.get("/users", response_model=Page[DatedAccount])
async def list_users(
    request: Request,
    reads: Reads,
    _: Admin,
    email: Annotated[str | None, Query(max_length=254)] = None,
    account_type: AccountType | None = None,
    status: Status | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """All accounts, the newest first (ADMIN)."""
    page = await users_query.users(
        reads, email=email, account_type=account_type, status=status, limit=limit, cursor=cursor
    )
    return page_answer(request, Page[DatedAccount].model_validate(page.value), page.position)


@router.get("/users/{user_id}", response_model=DatedAccount)
async def get_user(user_id: UUID, request: Request, services: ServicesOf, reads: Reads, _: Oneself) -> Response:
    """An account: one's own, or any for an ADMIN."""
    missing = NotFound("user_not_found", "there is no such account")
    user, position = await found(services, reads, lambda models: users_query.user(models, user_id), missing)
    return versioned(request, DatedAccount.model_validate(user), position=position, version=user.version)


@router.put("/users/{user_id}", response_model=Account)
async def update_user(
    user_id: UUID, body: Profile, services: ServicesOf, caller: Oneself, expected_version: ExpectedVersion
) -> Response:
    """Change an account. A new e-mail is to be verified anew; a new password ends all sessions, the caller's too (the
    access token still serves until it expires). 412 when If-Match is stale."""
    landed = await services.accounts.update(caller, user_id, **body.model_dump(), expected_version=expected_version)
    position = await position_of(landed, services)
    return answer(_account(landed.value.user), position=position, version=landed.value.version)
