"""The visitor's own account."""

from starlette.responses import Response

from web.api_client import Problem
from web.countries import COUNTRIES
from web.files import as_file
from web.routing import Router
from web.sessions import User
from web.visit import Visit

router = Router()

FIELDS = {
    "details": ("name", "region"),
    "email": ("email", "current_password"),
    "password": ("password", "current_password"),
}
"""The forms of the page, and the fields of each."""


@router.get("/profile", signed_in=True)
async def show_profile(visit: Visit) -> Response:
    """What is known about the visitor, and the forms to change it."""
    return await _profile_page(visit)


async def _profile_page(visit: Visit, sent: str = "", status: int = 200) -> Response:
    """The page; the form named `sent` shows its errors."""
    account = await visit.api.get("/api/v1/users/me", User)
    return visit.page(
        "shop/profile.html", status=status, account=account, countries=COUNTRIES, sent=sent
    )


@router.post("/profile", signed_in=True)
async def change_profile(visit: Visit) -> Response:
    """Change what one of the forms is about."""
    sent = visit.form.text("form")
    body = visit.form.body(*FIELDS.get(sent, ()))
    try:
        changed = await visit.api.put("/api/v1/users/me", body, User)
    except Problem as problem:
        visit.form.refuse(problem)
        return await _profile_page(visit, sent, status=422)
    visit.keep(user=changed)
    return visit.go("/profile", "Your changes are saved.")


@router.get("/profile/export", signed_in=True)
async def export(visit: Visit) -> Response:
    """All data about the visitor, as a file."""
    user = visit.user
    assert user is not None
    return as_file(await visit.api.download(f"/api/v1/users/{user.id}/export"))


@router.post("/profile/close", signed_in=True)
async def close_account(visit: Visit) -> Response:
    """Close the account; with `forget`, its personal data becomes unreadable for good."""
    if visit.form.text("sure") != "yes":
        visit.form.errors["sure"] = "Confirm that you want to close your account."
        return await _profile_page(visit, "close", status=422)
    forget = visit.form.text("forget") == "yes"
    try:
        await visit.api.delete("/api/v1/users/me", forget=forget or None)
    except Problem as problem:
        visit.form.refuse(problem)
        return await _profile_page(visit, "close", status=409)
    visit.sign_out("Your account is closed.")
    return visit.go("/")
