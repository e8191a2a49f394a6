"""Evidence bundles of orders, wallets and payments, for auditors."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from api.answers import POSITION_HEADER
from api.auth import Admin, Auditor
from api.fields import Body, Reason
from api.proving import proving
from api.reading import LogPosition
from api.services import Services, ServicesOf
from domain.errors import NotFound
from queries.bundles.contents import Personal
from queries.bundles.making import Gathered, NoBundle, gather, make, personal_fields, persons_of

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])

ZIP = "application/zip"
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {ZIP: {}}, "description": "The bundle: a zip."}
}


class DisclosureBody(Body):
    """Why personal data is handed out: it is recorded in the log."""

    reason: Reason


@router.get("/bundles/{stream_id}", response_class=Response, responses=_ANSWERS)
async def get_bundle(
    stream_id: UUID, services: ServicesOf, _: Auditor, head: LogPosition
) -> Response:
    """Return the evidence of an order, payment, wallet, transaction or shipment as one zip, without
    personal data: docs/proofs.md says what is in it. 409 `not_signed_yet` while one of its events
    is in no checkpoint. Requires AUDITOR or ADMIN."""
    return await _bundle(services, await _gathered(services, stream_id), head, None)


@router.post("/bundles/{stream_id}", response_class=Response, responses=_ANSWERS)
async def disclose_bundle(
    stream_id: UUID, body: DisclosureBody, services: ServicesOf, caller: Admin, head: LogPosition
) -> Response:
    """Return the evidence with personal data. Who had it, of what, about whom and why is recorded
    in the log first. Requires ADMIN."""
    gathered = await _gathered(services, stream_id)
    with proving():  # nothing is disclosed where there is no bundle
        await make(services.log, gathered, services.clock.now())
    persons = await persons_of(services.log, gathered.positions)
    subject = gathered.subject
    made = await services.commands.disclosures.disclose(
        caller, subject.kind, subject.id, persons, body.reason
    )
    fields = await personal_fields(services.log, gathered.positions)
    return await _bundle(services, gathered, head, Personal(made, body.reason, fields))


async def _gathered(services: Services, subject_id: UUID) -> Gathered:
    try:
        return await gather(services.log, subject_id)
    except NoBundle as error:
        raise NotFound("subject_not_found", str(error)) from error


async def _bundle(
    services: Services, gathered: Gathered, head: int, personal: Personal | None
) -> Response:
    with proving():
        content = await make(services.log, gathered, services.clock.now(), personal)
    subject = gathered.subject
    headers = {
        POSITION_HEADER: str(head),
        "Cache-Control": "no-store",
        "Content-Disposition": f'attachment; filename="{subject.kind}-{subject.id}.zip"',
    }
    return Response(content, 200, headers, ZIP)
