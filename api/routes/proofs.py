"""Signed checkpoints and proofs, for auditors: what others can check without the log."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from api.answers import POSITION_HEADER, answer, page_answer
from api.auth import Auditor
from api.fields import Answer, Page, Time
from api.proving import proving
from api.reading import BEYOND_EVERY_LOG, Limit, LogPosition
from api.services import ServicesOf
from domain.errors import Conflict
from eventstore.proofs.documents import Proof, encode
from eventstore.proofs.heads import Head
from eventstore.proofs.signing import sign_checkpoint
from queries.audit.proofs import Proofs

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])

SizeInPath = Annotated[int, Path(ge=1, lt=2**63, description="How many events it has.")]
Before = Annotated[
    int, Query(alias="cursor", ge=1, lt=2**63, description="`next_cursor` of the previous page.")
]


MOST_UNSIGNED = 50_000
"""So many events are verified and signed within a request, in a fraction of a second."""


async def _proofs(services: ServicesOf) -> Proofs:
    return Proofs(services.log.pool)


ProofsOf = Annotated[Proofs, Depends(_proofs)]


class CheckpointView(Answer):
    """A signed checkpoint. `note` is its text with the signatures (C2SP tlog-checkpoint);
    `root` and `hash` are in hex, the latter the chain's at position `size`. `void` says why the log
    does not have these events any more."""

    size: int
    root: str
    hash: str
    note: str
    made_at: Time
    witnessed_at: Time | None
    void: str | None


class KeyView(Answer):
    """A public key that signs checkpoints of `since` to `until` events (null: it signs now)."""

    key: str
    since: int
    until: int | None


class KeysView(Answer):
    keys: list[KeyView]


class ProvenEventView(Answer):
    """An event as the log stores it, byte by byte in `payload`; personal fields are ciphertext."""

    event_id: UUID
    stream_id: UUID
    version: int
    name: str
    payload: str | None
    payload_base64: str | None
    actor: str
    correlation_id: UUID | None
    causation_id: UUID | None
    traceparent: str | None
    occurred_at: Time | None
    recorded_at: Time


class InclusionView(Answer):
    """A proof that the log has an event: docs/proofs.md says how to check it."""

    kind: Literal["inclusion"]
    format: Literal["ludoteca.proof.1"]
    position: int
    event: ProvenEventView
    previous_hash: str
    path: list[str]
    checkpoint: str


class ConsistencyView(Answer):
    """A proof that the log of one checkpoint begins with that of another."""

    kind: Literal["consistency"]
    format: Literal["ludoteca.proof.1"]
    path: list[str]
    old_checkpoint: str
    checkpoint: str


@router.get("/checkpoints", response_model=Page[CheckpointView])
async def list_checkpoints(
    request: Request,
    proofs: ProofsOf,
    _: Auditor,
    head: LogPosition,
    limit: Limit = 50,
    cursor: Before = BEYOND_EVERY_LOG,
) -> Response:
    """List the signed checkpoints, the latest first. Requires AUDITOR or ADMIN."""
    found = await proofs.checkpoints(cursor, limit)
    following = str(found[-1].number) if len(found) == limit else None
    page = {"items": [_view(each) for each in found], "next_cursor": following}
    return page_answer(request, Page[CheckpointView].model_validate(page), head)


@router.post("/checkpoints", status_code=201, response_model=CheckpointView)
async def sign_now(services: ServicesOf, proofs: ProofsOf, _: Auditor) -> Response:
    """Sign a checkpoint of the log as it is now, and return it; the latest one if nothing was
    appended since. 409 `not_signed_yet` while the worker has much to sign. Requires AUDITOR or
    ADMIN."""
    end = await services.log.head()
    if end - await proofs.signed() > MOST_UNSIGNED:
        raise Conflict("not_signed_yet", "the worker has much to sign: wait for its checkpoint")
    with proving():
        head = await sign_checkpoint(services.log)
    return answer(_view(head), status=201, position=head.size)


@router.get("/checkpoints/latest", response_model=CheckpointView)
async def get_latest_checkpoint(proofs: ProofsOf, _: Auditor, head: LogPosition) -> Response:
    """Return the latest signed checkpoint. Requires AUDITOR or ADMIN."""
    with proving():
        return answer(_view(await proofs.checkpoint(None)), position=head)


@router.get("/checkpoints/{size}", response_model=CheckpointView)
async def get_checkpoint(
    size: SizeInPath, proofs: ProofsOf, _: Auditor, head: LogPosition
) -> Response:
    """Return the signed checkpoint of so many events. Requires AUDITOR or ADMIN."""
    with proving():
        return answer(_view(await proofs.checkpoint(size)), position=head)


@router.get("/keys", response_model=KeysView)
async def list_keys(proofs: ProofsOf, _: Auditor, head: LogPosition) -> Response:
    """List the public keys that sign checkpoints, the oldest first. Requires AUDITOR or ADMIN."""
    found = [
        KeyView(key=str(each.key), since=each.since, until=each.until)
        for each in await proofs.keys()
    ]
    return answer(KeysView(keys=found), position=head)


@router.get("/proofs/{position}", response_model=InclusionView)
async def prove_event(
    position: Annotated[int, Path(ge=1, lt=2**63)],
    proofs: ProofsOf,
    _: Auditor,
    head: LogPosition,
    size: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
) -> Response:
    """Prove the event at a position, by the checkpoint of `size` events, or else the latest: 409
    `not_signed_yet` for one that is younger than it. Requires AUDITOR or ADMIN."""
    with proving():
        return _document(await proofs.of_event(position, size), head)


@router.get("/consistency", response_model=ConsistencyView)
async def prove_consistency(
    proofs: ProofsOf,
    _: Auditor,
    head: LogPosition,
    old: Annotated[int, Query(alias="from", ge=1, lt=2**63)],
    new: Annotated[int, Query(alias="to", ge=1, lt=2**63)],
) -> Response:
    """Prove that the checkpoint of `to` events begins with that of `from` events. Requires AUDITOR
    or ADMIN."""
    with proving():
        return _document(await proofs.of_consistency(old, new), head)


def _view(head: Head) -> CheckpointView:
    return CheckpointView(
        size=head.size,
        root=head.root.hex(),
        hash=head.hash.hex(),
        note=head.note,
        made_at=head.made_at,
        witnessed_at=head.witnessed_at,
        void=head.void,
    )


def _document(proof: Proof, head: int) -> Response:
    """A proof as a file has it, so that it can be kept as it came."""
    return Response(encode(proof), 200, {POSITION_HEADER: str(head)}, "application/json")
