"""People: accounts without personal data, which an ADMIN sees on asking; their orders and
wallets."""

from datetime import datetime

import msgspec
from starlette.responses import Response

from web.api_client import Listed, Problem
from web.console.acting import may_act, reason_of
from web.console.entering import console_router
from web.console.moments import moment_of
from web.visit import Visit

router = console_router()

PER_PAGE = 50
A_FEW = 10
ROLES = ("BUYER", "SELLER", "AUDITOR", "ADMIN", "SERVICE")
STATUSES = ("PENDING_VERIFICATION", "ACTIVE", "DEACTIVATED", "FORGOTTEN")


class Person(msgspec.Struct, frozen=True):
    """An account; what is personal is masked."""

    id: str
    name: str | None
    email: str | None
    account_type: str
    region: str
    status: str
    email_verified: bool
    created_at: datetime
    updated_at: datetime


class Personal(msgspec.Struct, frozen=True):
    """The personal data of an account."""

    name: str | None
    email: str | None


class Wallet(msgspec.Struct, frozen=True):
    id: str
    currency: str
    balance_cents: int
    owed_cents: int
    status: str


class Order(msgspec.Struct, frozen=True):
    order_id: str
    currency: str
    total_cents: int
    status: str
    created_at: datetime


@router.get("/console/people")
async def show_people(visit: Visit) -> Response:
    """All accounts, the newest first."""
    chosen = {name: visit.query(name) for name in ("account_type", "status")}
    found = await visit.api.get(
        "/api/v1/ops/people",
        Listed[Person],
        **{name: text or None for name, text in chosen.items()},
        limit=PER_PAGE,
        cursor=visit.query("cursor") or None,
    )
    return visit.page(
        "console/people.html", found=found, chosen=chosen, roles=ROLES, statuses=STATUSES
    )


@router.get("/console/people/{user_id}")
async def show_person(visit: Visit) -> Response:
    """An account with its wallets and latest orders."""
    return await _person_page(visit)


@router.post("/console/people/{user_id}/disclosure")
async def disclose(visit: Visit) -> Response:
    """Show name and address, once. That they were asked for is recorded first."""
    user_id = visit.id("user_id")
    reason = reason_of(visit)
    if reason is None:
        return await _person_page(visit, status=422)
    path = f"/api/v1/ops/people/{user_id}/disclosure"
    try:
        personal = await visit.api.post(path, {"reason": reason}, Personal)
    except Problem as problem:
        visit.form.refuse(problem)
        return await _person_page(visit, status=problem.status)
    response = await _person_page(visit, personal=personal)
    response.headers["Cache-Control"] = "no-store"
    return response


async def _person_page(
    visit: Visit, status: int = 200, personal: Personal | None = None
) -> Response:
    user_id = visit.id("user_id")
    person = await visit.api.get(f"/api/v1/ops/people/{user_id}", Person)
    moment = moment_of(visit)
    wallets: list[Wallet] | None = None
    orders: list[Order] | None = None
    try:
        # An AUDITOR reads what is a person's as of a moment, an ADMIN also now.
        if may_act(visit) or moment.as_of is not None:
            as_of = moment.as_of
            wallets = (
                await visit.api.get("/api/v1/wallets", Listed[Wallet], user_id=user_id, as_of=as_of)
            ).items
            path = f"/api/v1/orders/user/{user_id}"
            orders = (await visit.api.get(path, Listed[Order], limit=A_FEW, as_of=as_of)).items
    except Problem as problem:
        moment.refuse(problem)
    return visit.page(
        "console/person.html",
        status=moment.status if moment.error else status,
        person=person,
        personal=personal,
        moment=moment,
        wallets=wallets,
        orders=orders,
        may_act=may_act(visit),
    )
