"""Opening an account, signing in and out, and the links that are mailed."""

from starlette.responses import Response

from web.api_client import Nothing, Problem
from web.countries import COUNTRIES
from web.routing import Router
from web.sessions import User
from web.shop.answers import LoggedIn, Registered
from web.visit import Visit, own_path

router = Router()

VERIFY, RESET = "/verify-email", "/reset-password"
"""The pages that mails link to (`commands.workers.notifications`)."""


# -- a new account ---------------------------------------------------------------------------------


@router.get("/register")
async def registration(visit: Visit) -> Response:
    """The form for a new account."""
    return _registration(visit, own_path(visit.query("next")))


def _registration(visit: Visit, following: str, status: int = 200) -> Response:
    return visit.page("shop/register.html", status=status, countries=COUNTRIES, next=following)


@router.post("/register")
async def register(visit: Visit) -> Response:
    """Open an account, sign in to it, and go on to where the visitor wanted to go."""
    following = own_path(visit.form.text("next"))
    body = visit.form.body("email", "password", "name", "region", "account_type")
    for name in ("email", "password", "name"):
        body.setdefault(name, "")
    try:
        made = await visit.api.post("/api/v1/users", body, Registered)
    except Problem as problem:
        visit.form.refuse(problem)
        return _registration(visit, following, status=422)
    visit.sign_in(made.user, made.access_token, made.refresh_token, made.expires_in)
    if following == "/" and made.account_type == "SELLER":
        following = "/sell"
    return visit.go(
        following, "Welcome! We have sent you a mail: it proves that the address is yours."
    )


# -- sessions --------------------------------------------------------------------------------------


@router.get("/sign-in")
async def sign_in_form(visit: Visit) -> Response:
    """The form to sign in."""
    if visit.user is not None:
        return visit.go(own_path(visit.query("next")))
    return visit.page("shop/sign_in.html", next=own_path(visit.query("next")))


@router.post("/sign-in")
async def sign_in(visit: Visit) -> Response:
    """Sign in, and go on to where the visitor wanted to go."""
    following = own_path(visit.form.text("next"))
    body = {name: visit.form.secret(name) for name in ("email", "password")}
    try:
        opened = await visit.api.post("/api/v1/auth/login", body, LoggedIn)
    except Problem as problem:
        if problem.status == 401:
            visit.form.problem = "The e-mail or the password is wrong."
        else:
            visit.form.refuse(problem)
        return visit.page("shop/sign_in.html", status=422, next=following)
    visit.sign_in(opened.user, opened.access_token, opened.refresh_token, opened.expires_in)
    return visit.go(following)


@router.post("/sign-out", fresh=False)
async def sign_out(visit: Visit) -> Response:
    """End the session, here and in the API. The cookie goes even while the API is away: others may
    use this computer."""
    notice = "You are signed out."
    try:
        await visit.refresh()
        if visit.user is not None:
            await visit.api.post("/api/v1/auth/logout", None, Nothing)
    except Problem as problem:
        if problem.status != 401:  # else it has ended already
            notice = (
                "You are signed out of this browser. The shop could not note that, as it is not"
                " available at the moment."
            )
    visit.sign_out(notice)
    return visit.go("/")


# -- proofs by mail --------------------------------------------------------------------------------


# Opening one of these pages changes nothing, as programs that check mails open their links; the
# button does.


@router.get(VERIFY)
async def verification(visit: Visit) -> Response:
    """The page that a mail about an address leads to."""
    return _verification(visit, visit.query("token"))


def _verification(visit: Visit, token: str, status: int = 200) -> Response:
    return _unreferred(visit.page("shop/verify.html", status=status, token=token, next="/"))


@router.post(VERIFY)
async def verify(visit: Visit) -> Response:
    """Verify an e-mail address."""
    token = visit.form.text("token")
    try:
        await visit.api.post("/api/v1/auth/verify-email", {"token": token}, Nothing)
    except Problem as problem:
        visit.form.refuse(problem)
        return _verification(visit, token, status=422)
    if visit.user is not None:
        visit.keep(user=await visit.api.get("/api/v1/users/me", User))
    return visit.go("/", "Thank you: your e-mail address is verified.")


@router.post(f"{VERIFY}/again", signed_in=True)
async def verify_again(visit: Visit) -> Response:
    """Mail the link again."""
    await visit.api.post("/api/v1/auth/verify-email/resend", None, Nothing)
    return visit.go("/profile", "The mail is on its way.")


@router.get("/forgot")
async def forgotten(visit: Visit) -> Response:
    """The form that asks for a link to choose a new password."""
    return visit.page("shop/forgot.html")


@router.post("/forgot")
async def forgot(visit: Visit) -> Response:
    """Mail a link for choosing a new password, if there is such an account."""
    try:
        await visit.api.post(
            "/api/v1/auth/password/forgot", {"email": visit.form.text("email")}, Nothing
        )
    except Problem as problem:
        visit.form.refuse(problem)
        return visit.page("shop/forgot.html", status=422)
    return visit.go(
        "/sign-in", "If there is an account with this address, a mail with a link is on its way."
    )


@router.get(RESET)
async def reset_form(visit: Visit) -> Response:
    """The form for a new password, to which a mail leads."""
    return _reset_form(visit, visit.query("token"))


def _reset_form(visit: Visit, token: str, status: int = 200) -> Response:
    return _unreferred(visit.page("shop/reset.html", status=status, token=token, next="/"))


@router.post(RESET)
async def reset(visit: Visit) -> Response:
    """Set the new password. That ends all sessions of the account."""
    token = visit.form.text("token")
    body = {"token": token, "password": visit.form.secret("password")}
    try:
        await visit.api.post("/api/v1/auth/password/reset", body, Nothing)
    except Problem as problem:
        visit.form.refuse(problem)
        return _reset_form(visit, token, status=422)
    visit.sign_out()
    return visit.go("/sign-in", "Your password is changed. Sign in with the new one.")


def _unreferred(response: Response) -> Response:
    """Keep a page whose address contains a secret out of caches, and the address from other
    sites."""
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    return response
