"""What pages that act have in common: only an ADMIN acts, and says why."""

from web.visit import Visit


def may_act(visit: Visit) -> bool:
    """Whether the page shows what acts. The API decides what is admitted."""
    return visit.user is not None and visit.user.account_type == "ADMIN"


def reason_of(visit: Visit) -> str | None:
    """The reason that was typed; None, with the form's error, if there is none."""
    reason = visit.form.text("reason")
    if not reason:
        visit.form.errors["reason"] = "Say why: it is recorded."
    return reason or None
