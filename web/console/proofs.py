"""What others can check: signed checkpoints, the keys that sign them, proofs of single events; and
the verification of the whole log."""

from base64 import b64decode
from datetime import datetime
from typing import NamedTuple

import msgspec
from starlette.responses import Response

from web.api_client import Listed, Problem
from web.console.entering import console_router
from web.console.tasks import Task
from web.files import as_file, text_file
from web.forms import Form
from web.visit import Visit, own_path
from web.words import sentence

router = console_router()

PER_PAGE = 20


class Signature(NamedTuple):
    """Who signed a checkpoint: the name of a key, and its id."""

    name: str
    key_id: str


class Checkpoint(msgspec.Struct, frozen=True):
    """A signed checkpoint of `size` events; `note` is its text with the signatures (C2SP
    tlog-checkpoint)."""

    size: int
    hash: str
    note: str
    made_at: datetime
    witnessed_at: datetime | None
    void: str | None

    @property
    def own(self) -> list[Signature]:
        """The log's own signatures, whose keys have the name of the note's first line."""
        return [each for each in self._signatures if each.name == self._origin]

    @property
    def witnesses(self) -> list[Signature]:
        """The signatures of others."""
        return [each for each in self._signatures if each.name != self._origin]

    @property
    def _origin(self) -> str:
        return self.note.partition("\n")[0]

    @property
    def _signatures(self) -> list[Signature]:
        """The signatures that can be read: four bytes of the key's id, then the signature, in
        base64."""
        found = []
        for line in self.note.partition("\n\n")[2].splitlines():
            try:
                _, name, signed = line.split(" ")
                found.append(Signature(name, b64decode(signed)[:4].hex()))
            except ValueError:
                continue
        return found


class Key(msgspec.Struct, frozen=True):
    """A public key that signs checkpoints of `since` to `until` events (None: it signs now)."""

    key: str
    since: int
    until: int | None


class Keys(msgspec.Struct, frozen=True):
    keys: list[Key]


@router.get("/console/proofs")
async def show_proofs(visit: Visit) -> Response:
    """The last verification, the latest checkpoints, and the keys."""
    return await _proofs_page(visit)


async def _proofs_page(visit: Visit, status: int = 200) -> Response:
    checkpoints = await visit.api.get(
        "/api/v1/audit/checkpoints",
        Listed[Checkpoint],
        limit=PER_PAGE,
        cursor=visit.query("cursor") or None,
    )
    keys = await visit.api.get("/api/v1/audit/keys", Keys)
    tasks = await visit.api.get("/api/v1/audit/tasks", Listed[Task])
    verifications = [each for each in tasks.items if each.kind == "verification"]
    return visit.page(
        "console/proofs.html",
        status=status,
        checkpoints=checkpoints,
        keys=keys.keys,
        verification=verifications[0] if verifications else None,
    )


@router.post("/console/proofs/verifications")
async def verify(visit: Visit) -> Response:
    """Verify the whole log, and lead to the task."""
    try:
        task = await visit.api.post("/api/v1/audit/verifications", None, Task)
    except Problem as problem:
        visit.form.refuse(problem)
        return await _proofs_page(visit, status=problem.status)
    return visit.go(f"/console/tasks/{task.id}")


@router.post("/console/proofs/checkpoints")
async def sign_now(visit: Visit) -> Response:
    """Sign a checkpoint of the log as it is now, and go back to what needed it (`next`)."""
    try:
        signed = await visit.api.post("/api/v1/audit/checkpoints", None, Checkpoint)
    except Problem as problem:
        visit.form.refuse(problem)
        return await _proofs_page(visit, status=problem.status)
    back = own_path(visit.form.text("next") or "/console/proofs")
    return visit.go(back, f"The latest checkpoint has {signed.size:,} events, and is signed.")


@router.get("/console/proofs/checkpoints/{size}")
async def download_note(visit: Visit) -> Response:
    """A checkpoint's note as a file, for others to keep."""
    size = visit.part("size")
    found = await visit.api.get(f"/api/v1/audit/checkpoints/{size}", Checkpoint)
    return text_file(found.note, f"checkpoint-{found.size}.txt")


@router.get("/console/proofs/consistency")
async def prove_consistency(visit: Visit) -> Response:
    """The proof that a later checkpoint's log begins with an earlier one's, as a file."""
    asked = {name: visit.query(name) for name in ("from", "to")}
    try:
        answer = await visit.api.download("/api/v1/audit/consistency", None, **asked)
    except Problem as problem:
        visit.form = Form(asked)
        visit.form.refuse(problem)
        return await _proofs_page(visit, status=problem.status)
    return as_file(answer, f"proof-{asked['from']}-{asked['to']}.json")


@router.get("/console/events/{position}/proof")
async def prove_event(visit: Visit) -> Response:
    """The proof of an event, as a file."""
    position = visit.part("position")
    try:
        answer = await visit.api.download(f"/api/v1/audit/proofs/{position}")
    except Problem as problem:
        if problem.status != 409:
            raise
        return visit.page(
            "console/unproven.html",
            status=409,
            position=position,
            problem=problem,
            why=sentence(problem),
        )
    return as_file(answer, f"proof-{position}.json")
