"""Sessions, and actions that a mailed token authorizes."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header
from fastapi import Body as JsonBody
from pydantic import Field
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, Response

from api.answers import answer, position_of
from api.attempt_limits import Attempt, Attempts
from api.auth import EVERYBODY, OptionalCaller, SignedIn
from api.fields import Body, Email, Text, Token
from api.idempotency import MAX_KEY, Idempotency, Idempotent, no_result
from api.services import Services, ServicesOf
from api.views.accounts import NOT_STORED, Account, TokenPair, account_view, tokens_for
from commands.accounts.logins import Login
from commands.caller import Caller
from commands.handler import CommandResult
from domain.errors import Unauthorized
from domain.identity import AccountType, User
from eventstore.log import AlreadyDone, IdempotencyKey, IdempotencyRecord

router = APIRouter(prefix="/api/v1", tags=["identity"])
well_known = APIRouter(tags=["identity"])


# -- request bodies --------------------------------------------------------------------------------


class Credentials(Body):
    email: Email
    password: Text


class RefreshToken(Body):
    refresh_token: Token


class MailedToken(Body):
    token: Token


class EmailAddress(Body):
    email: Email


class NewPassword(Body):
    token: Token
    password: Text = Field(description="At least 10 characters.")


# -- answers ---------------------------------------------------------------------------------------


class LoggedIn(TokenPair):
    """A new session: its account and tokens."""

    user: Account


RefreshKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=MAX_KEY,
        description="A secret of the client, such as a random text: it makes it safe to repeat"
        " the request.",
    ),
]

# -- sessions --------------------------------------------------------------------------------------


@router.post("/auth/login", response_model=LoggedIn)
async def log_in(
    body: Credentials,
    services: ServicesOf,
    caller: OptionalCaller,
    attempts: Attempt,
    idempotency: Idempotency,
) -> Response:
    """Open a session with e-mail and password. Errors: 401 `invalid_credentials`, also for an
    unknown e-mail; 403 `user_inactive`."""
    return await _log_in(body, services, caller, attempts, idempotency)


@router.post("/auth/admin/login", response_model=LoggedIn)
async def log_in_as_admin(
    body: Credentials,
    services: ServicesOf,
    caller: OptionalCaller,
    attempts: Attempt,
    idempotency: Idempotency,
) -> Response:
    """Open a session for an ADMIN. Errors: as for a login; 403 for any other account."""
    return await _log_in(body, services, caller, attempts, idempotency, only="ADMIN")


async def _log_in(
    body: Credentials,
    services: Services,
    caller: Caller,
    attempts: Attempts,
    idempotency: Idempotent,
    only: AccountType | None = None,
) -> Response:
    """Log in. A replay returns fresh tokens of the same session, and only to a client that sends
    the right password again."""
    logins = services.commands.logins
    await attempts.on_account(body.email)

    async def again(done: IdempotencyRecord) -> Login:
        return await logins.again(
            UUID(done.result_ids["user_id"]), UUID(done.result_ids["session_id"]), body.password
        )

    async def reply(result: CommandResult[Login]) -> Response:
        await attempts.succeeded(body.email)
        tokens = tokens_for(services, result.value)
        opened = LoggedIn(**tokens.model_dump(), user=account_view(result.value.user))
        return answer(opened, position=await position_of(result, services), headers=NOT_STORED)

    return await idempotency.answer(
        lambda once: logins.log_in(
            caller, email=body.email, password=body.password, only=only, once=once
        ),
        again,
        reply,
        keep=False,
    )


@router.post("/auth/refresh", response_model=TokenPair)
async def refresh(
    body: RefreshToken, services: ServicesOf, caller: OptionalCaller, once: RefreshKey = None
) -> Response:
    """Exchange a refresh token for a new pair of tokens. A refresh token works once: using it again
    ends the session (401 `refresh_reused`), except under the `Idempotency-Key` that it was spent
    under, until its successor is spent."""
    token = services.tokens.read_refresh(body.refresh_token)
    result = await services.commands.logins.refresh(
        caller, token.session_id, token.generation, once
    )
    position = await position_of(result, services)
    return answer(tokens_for(services, result.value), position=position, headers=NOT_STORED)


@router.post("/auth/logout", status_code=204)
async def log_out(services: ServicesOf, caller: SignedIn) -> Response:
    """End the session of the access token, which also ends its tokens and WebSockets."""
    assert caller.session_id is not None
    result = await services.commands.logins.log_out(caller, caller.session_id)
    await services.session_ends.reached(result.position)
    return answer(None, status=204, position=await position_of(result, services))


@well_known.get("/.well-known/jwks.json", dependencies=[EVERYBODY])
async def keys(services: ServicesOf) -> Response:
    """Return the public keys for verifying access tokens (RFC 7517)."""
    return JSONResponse(services.tokens.jwks(), headers={"Cache-Control": "public, max-age=300"})


# -- proofs by mail --------------------------------------------------------------------------------


@router.post("/auth/verify-email", status_code=204)
async def verify_email(
    body: MailedToken,
    services: ServicesOf,
    caller: OptionalCaller,
    _: Attempt,
    idempotency: Idempotency,
) -> Response:
    """Verify an e-mail address with the token that was mailed to it. Errors: 422
    `invalid_token`."""
    return await idempotency.answer(
        lambda once: services.commands.mail_proofs.verify_email(caller, body.token, once=once),
        no_result,
        lambda result: _no_content(services, result),
    )


@router.post("/auth/verify-email/resend", status_code=202)
async def verify_email_again(
    services: ServicesOf,
    caller: OptionalCaller,
    attempts: Attempt,
    idempotency: Idempotency,
    body: Annotated[EmailAddress | None, JsonBody()] = None,
) -> Response:
    """Send the verification mail again, to the caller's address or to the given one. The answer
    does not reveal whether the account exists or is already verified."""
    accounts, proofs = services.commands.accounts, services.commands.mail_proofs
    if body is None:
        if caller.user_id is None:
            raise Unauthorized("unauthorized", "give an e-mail address or an access token")
        email = (await accounts.get(caller.user_id)).email
    else:
        email = body.email
    await attempts.mail_to(email)
    return _accepted(idempotency, lambda once: proofs.verification_again(caller, email, once=once))


@router.post("/auth/password/forgot", status_code=202)
async def forgot_password(
    body: EmailAddress,
    services: ServicesOf,
    caller: OptionalCaller,
    attempts: Attempt,
    idempotency: Idempotency,
) -> Response:
    """Send a mail with a token for choosing a new password. The answer does not reveal whether the
    account exists.

    A repeat with the same `Idempotency-Key` sends no second mail, and its answer reveals no more.
    """
    await attempts.mail_to(body.email)
    return _accepted(
        idempotency,
        lambda once: services.commands.mail_proofs.forgot_password(caller, body.email, once=once),
    )


def _accepted(
    idempotency: Idempotent, command: Callable[[IdempotencyKey | None], Awaitable[object]]
) -> Response:
    """202, and run the command afterwards: neither a log position nor the time taken reveals
    whether it did anything."""

    async def mail() -> None:
        with suppress(AlreadyDone):
            await command(idempotency.undisclosed)

    response = answer(None, status=202)
    response.background = BackgroundTask(mail)
    return response


@router.post("/auth/password/reset", status_code=204)
async def reset_password(
    body: NewPassword,
    services: ServicesOf,
    caller: OptionalCaller,
    attempts: Attempt,
    idempotency: Idempotency,
) -> Response:
    """Choose a new password with a mailed token. This ends all sessions.

    A token that was mailed to a former address also makes that address the account's again. Errors:
    422 `invalid_token`, `weak_password`; 409 `email_taken`.
    """

    async def reply(result: CommandResult[User | None]) -> Response:
        if result.value is not None:
            await attempts.succeeded(result.value.email)
        return await _no_content(services, result)

    return await idempotency.answer(
        lambda once: services.commands.mail_proofs.reset_password(
            caller, body.token, body.password, once=once
        ),
        no_result,
        reply,
    )


async def _no_content(services: Services, result: CommandResult[Any]) -> Response:
    await services.session_ends.reached(result.position)
    return answer(None, status=204, position=await position_of(result, services))
