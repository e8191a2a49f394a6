"""People, for operators: accounts without personal data, and its disclosure on asking."""

from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.account_ids import AccountId
from api.answers import answer, page_answer
from api.auth import Admin, Auditor
from api.fields import Answer, Body, Page, Reason, Time
from api.reading import Cursor, Limit, PresentReads, found
from api.services import ServicesOf
from api.views.accounts import NOT_STORED
from commands.aggregates import USER
from domain.identity import AccountType, Status
from kit.forgotten import ENCRYPTED
from projections.models.users import User
from queries.accounts import users as users_query

router = APIRouter(prefix="/api/v1/ops", tags=["operations"])


class PersonView(Answer):
    """An account. An ADMIN sees the first letter of name and address, an AUDITOR only that there is
    one; null without one."""

    id: UUID
    name: str | None
    email: str | None
    account_type: str
    region: str
    status: str
    email_verified: bool
    created_at: Time
    updated_at: Time


class PersonDisclosureBody(Body):
    """Why personal data is shown: it is recorded in the log."""

    reason: Reason


class PersonalFields(Answer):
    """The personal data of an account, and the id of the recorded disclosure."""

    id: UUID
    disclosure_id: UUID
    name: str | None
    email: str | None


@router.get("/people", response_model=Page[PersonView])
async def list_people(
    request: Request,
    reads: PresentReads,
    caller: Auditor,
    account_type: AccountType | None = None,
    status: Status | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List the accounts, newest first, without personal data. Requires AUDITOR or ADMIN."""
    page = await users_query.users(
        reads, account_type=account_type, status=status, limit=limit, cursor=cursor
    )
    letters = caller.account_type == "ADMIN"
    items = [_view(each, letters=letters) for each in page.value.items]
    view = Page[PersonView](items=items, next_cursor=page.value.next_cursor)
    return page_answer(request, view, page.position)


@router.get("/people/{user_id}", response_model=PersonView)
async def get_person(
    user_id: AccountId, services: ServicesOf, reads: PresentReads, caller: Auditor
) -> Response:
    """Return an account without personal data. Requires AUDITOR or ADMIN."""
    user, position = await found(
        services, reads, lambda models: users_query.user(models, user_id), USER.missing
    )
    return answer(_view(user, letters=caller.account_type == "ADMIN"), position=position)


@router.post("/people/{user_id}/disclosure", response_model=PersonalFields)
async def disclose_person(
    user_id: AccountId,
    body: PersonDisclosureBody,
    services: ServicesOf,
    reads: PresentReads,
    caller: Admin,
) -> Response:
    """Return name and address of an account. Who asked, about whom and why is recorded in the log
    first. Requires ADMIN."""
    user, position = await found(
        services, reads, lambda models: users_query.user(models, user_id), USER.missing
    )
    disclosure_id = await services.commands.disclosures.disclose(
        caller, "user", user_id, [user_id], body.reason
    )
    fields = PersonalFields(
        id=user_id, disclosure_id=disclosure_id, name=user.name, email=user.email
    )
    return answer(fields, position=position, headers=NOT_STORED)


def _view(user: User, *, letters: bool) -> PersonView:
    return PersonView(
        id=user.user_id,
        name=_masked(user.name, letters=letters),
        email=_masked(user.email, letters=letters),
        account_type=user.account_type,
        region=user.region,
        status=user.status,
        email_verified=user.email_verified,
        created_at=user.created_at,
        updated_at=user.updated_at,
    )


def _masked(text: str | None, *, letters: bool) -> str | None:
    """At most the first letter; of an address also that of its host."""
    if not text or not letters:
        return text and ENCRYPTED
    return "@".join(f"{part[:1]}•••" for part in text.split("@", 1))
