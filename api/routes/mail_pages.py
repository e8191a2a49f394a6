"""The pages that mails link to, for people whose front end has none: they take a mailed token.

Opening a page changes nothing, as programs that check mails open their links; its button does.
"""

from html import escape
from typing import Annotated

from fastapi import APIRouter, Form, Query
from starlette.responses import HTMLResponse, Response

from api.attempt_limits import Attempt
from api.auth import EVERYBODY, OptionalCaller
from api.middleware.security_headers import CSP
from api.problems import problem_of
from api.services import ServicesOf
from domain.errors import Refused

router = APIRouter(include_in_schema=False)

MailedToken = Annotated[str, Query(max_length=4096)]

_HEADERS = {
    CSP: "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "Cache-Control": "no-store",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} – Ludoteca</title>
</head>
<body><main>
<h1>{title}</h1>
{content}
</main></body>
</html>
"""
_CONFIRM = '<form method="post"><button>Confirm this address</button></form>'
_CHOOSE = """<form method="post" enctype="multipart/form-data">
<p><label for="password">New password, at least 10 characters</label></p>
<p><input id="password" name="password" type="password" autocomplete="new-password" minlength="10"
maxlength="4096" required></p>
<button>Save the password</button>
</form>"""


@router.get("/verify-email", dependencies=[EVERYBODY])
async def ask_to_verify(token: MailedToken = "") -> Response:  # noqa: ARG001 - the form sends it
    """Ask whether to confirm the address."""
    return _page("Confirm your e-mail address", _CONFIRM)


@router.post("/verify-email")
async def verify(
    services: ServicesOf, caller: OptionalCaller, _: Attempt, token: MailedToken = ""
) -> Response:
    """Verify the address."""
    try:
        await services.commands.mail_proofs.verify_email(caller, token)
    except Refused as refusal:
        return _refused(refusal, "Ask for another mail in your account.")
    return _page("Your e-mail address is confirmed", "<p>You can close this page.</p>")


@router.get("/reset-password", dependencies=[EVERYBODY])
async def ask_for_password(token: MailedToken = "") -> Response:  # noqa: ARG001 - the form sends it
    """Ask for a new password."""
    return _page("Choose a new password", _CHOOSE)


@router.post("/reset-password")
async def reset_password(
    services: ServicesOf,
    caller: OptionalCaller,
    attempts: Attempt,
    password: Annotated[str, Form(max_length=4096)],
    token: MailedToken = "",
) -> Response:
    """Set the password, and end all sessions."""
    try:
        result = await services.commands.mail_proofs.reset_password(caller, token, password)
    except Refused as refusal:
        return _refused(refusal, "Go back and choose another one, or ask for another mail.")
    await services.session_ends.reached(result.position)
    if result.value is not None:
        await attempts.succeeded(result.value.email)
    return _page("Your password is changed", "<p>You can log in with it now.</p>")


def _refused(refusal: Refused, advice: str) -> Response:
    problem = problem_of(refusal)
    text = f"<p>{escape(problem.detail.capitalize())}. {advice}</p>"
    return _page("That did not work", text, problem.status)


def _page(title: str, content: str, status: int = 200) -> Response:
    return HTMLResponse(_PAGE.format(title=title, content=content), status, _HEADERS)
