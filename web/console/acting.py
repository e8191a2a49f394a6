"""Shared by the pages that act: only an ADMIN acts, and gives a reason."""

from web.visit import Visit


def may_act(visit: Visit) -> bool:
    """Whether the page shows the forms that act. The API decides who may."""
    return visit.user is not None and visit.user.account_type == "ADMIN"


def reason_of(visit: Visit) -> str | None:
    """The reason that was typed. If it is missing: None, and an error in the form."""
    reason = visit.form.text("reason")
    if not reason:
        visit.form.errors["reason"] = "Say why: it is recorded."
    return reason or None
