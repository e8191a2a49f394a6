"""Evidence bundles: all that the log knows of an order, a payment or a wallet, with proofs, as one
file."""

from starlette.responses import Response

from web import values
from web.api_client import Answer, Problem
from web.console.acting import may_act, reason_of
from web.console.entering import console_router
from web.files import as_file
from web.forms import Form
from web.visit import Visit

router = console_router()


@router.get("/console/bundles")
async def show_form(visit: Visit) -> Response:
    """The form that makes a bundle, filled with the `id` in the URL."""
    visit.form = Form({"id": visit.query("id")})
    return _form_page(visit)


def _form_page(visit: Visit, status: int = 200, *, is_unsigned: bool = False) -> Response:
    return visit.page(
        "console/bundles.html", status=status, is_unsigned=is_unsigned, may_act=may_act(visit)
    )


@router.post("/console/bundles")
async def make_bundle(visit: Visit) -> Response:
    """A bundle as a file. One with personal data takes a reason, which is recorded first."""
    subject = values.as_id(visit.form.text("id")) or ""
    reason = None
    if not subject:
        visit.form.errors["id"] = "This is not the id of an order, a payment or a wallet."
    if visit.form.text("personal") == "yes":
        reason = reason_of(visit)
    if visit.form.errors:
        return _form_page(visit, status=422)
    try:
        return as_file(await _bundle(visit, subject, reason))
    except Problem as problem:
        if problem.code == "subject_not_found":
            visit.form.errors["id"] = f"There is no bundle of this: {problem.detail}."
        else:
            visit.form.refuse(problem)
        is_unsigned = problem.code == "not_signed_yet"
        return _form_page(visit, status=problem.status, is_unsigned=is_unsigned)


async def _bundle(visit: Visit, subject: str, reason: str | None) -> Answer:
    body = None if reason is None else {"reason": reason}
    return await visit.api.download(f"/api/v1/audit/bundles/{subject}", body)
