"""What is in a bundle.

    manifest.json            what the bundle is of, and the SHA-256 of every other file
    manifest.sig             the manifest's SHA-256, signed by the key that signs checkpoints
    checkpoint.txt           the signed checkpoint to which all proofs lead
    proofs/000000081250.json a proof of each event, as `ludoteca audit prove` makes it
    events.json, …           what the events say, taken from the proofs: ledger entries, receipts,
                             notices of the payment provider and of carriers, mails
    summary.html             the same for people
    personal.json            decrypted fields, if they were asked for

All but the last follows from the proofs, and is computed anew by whoever checks the bundle.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec

from eventstore.proofs.documents import InclusionProof, encode
from kit.forgotten import FORGOTTEN

FORMAT = "ludoteca.bundle.1"
MANIFEST, SIGNATURE, CHECKPOINT = "manifest.json", "manifest.sig", "checkpoint.txt"
PERSONAL, SUMMARY = "personal.json", "summary.html"

Document = dict[str, Any]


class Subject(msgspec.Struct, frozen=True):
    """What a bundle is of: the stream of an order, a wallet, a payment."""

    kind: str
    id: UUID


class Manifest(msgspec.Struct, frozen=True):
    """The table of contents. `positions` are those of the events; `left_out` counts earlier events
    of the subject, and others of its requests, that were too many. `release` is that of the program
    that made the bundle."""

    format: str
    release: int
    subject: Subject
    made_at: datetime
    positions: Sequence[int]
    left_out: int
    files: Mapping[str, str]


class PersonalFields(msgspec.Struct, frozen=True):
    """The personal fields of an event, decrypted."""

    position: int
    name: str
    fields: Document


def is_forgotten(event: PersonalFields) -> bool:
    """Whether a field cannot be decrypted any more."""
    return any(value is None or value == FORGOTTEN for value in event.fields.values())


class Personal(msgspec.Struct, frozen=True):
    """The decrypted fields, and the event that records that they were handed out."""

    disclosure_id: UUID
    reason: str
    events: Sequence[PersonalFields]


def proof_file(position: int) -> str:
    return f"proofs/{position:012}.json"


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def signed_text(manifest: bytes) -> str:
    """What is signed of a manifest: no checkpoint can be mistaken for it."""
    return f"{FORMAT}\n{b64encode(sha256(manifest).digest()).decode()}\n"


def formatted(document: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def payload_of(proof: InclusionProof) -> Document:
    """The event's payload; empty if it is no JSON object."""
    try:
        found = msgspec.json.decode(proof.event.bytes_of_payload)
    except (msgspec.MsgspecError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def contents_of(proofs: Sequence[InclusionProof]) -> dict[str, bytes]:
    """The files that follow from the proofs alone, but for the summary."""
    files = {proof_file(proof.position): encode(proof) for proof in proofs}
    files[CHECKPOINT] = proofs[0].checkpoint.encode()
    return files | {f"{name}.json": formatted(rows) for name, rows in tables_of(proofs).items()}


def tables_of(proofs: Sequence[InclusionProof]) -> dict[str, list[Document]]:
    """What the events say, by subject: a list of rows each."""
    return {name: [row for proof in proofs for row in rows(proof)] for name, rows in _ROWS.items()}


def _placed(proof: InclusionProof) -> Document:
    """Where and when an event is in the log."""
    return {"position": proof.position, "at": proof.event.occurred_at or proof.event.recorded_at}


def _event_rows(proof: InclusionProof) -> list[Document]:
    event = proof.event
    about = {"name": event.name, "stream_id": event.stream_id, "version": event.version}
    return [{**_placed(proof), **about, "actor": event.actor, "payload": payload_of(proof)}]


def _ledger_rows(proof: InclusionProof) -> list[Document]:
    if not proof.event.name.startswith("ledger.transaction_posted."):
        return []
    payload = payload_of(proof)
    entries = payload.get("entries")
    found = (
        [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []
    )
    cause = {"cause_event_id": payload.get("cause_event_id")}
    return [{**_placed(proof), **each, **cause} for each in found]


def _rows_of(*prefixes: str) -> Callable[[InclusionProof], list[Document]]:
    """The payloads of events whose names begin so."""

    def rows(proof: InclusionProof) -> list[Document]:
        name = proof.event.name
        if not name.startswith(prefixes):
            return []
        return [{**_placed(proof), "name": name, **payload_of(proof)}]

    return rows


def _notice_rows(proof: InclusionProof) -> list[Document]:
    """What is known of a notice without what was received, which is ciphertext here."""
    name = proof.event.name
    if not name.startswith(("payment.notice_received.", "notice.kept.")):
        return []
    facts = {key: value for key, value in payload_of(proof).items() if key != "received"}
    return [{**_placed(proof), "name": name, **facts}]


def _mail_rows(proof: InclusionProof) -> list[Document]:
    """What is known of a message without its text: which, how it was sent, what became of it."""
    name = proof.event.name
    if not name.startswith("notification."):
        return []
    facts = {key: value for key, value in payload_of(proof).items() if key != "params"}
    about = {"name": name, "notification_id": proof.event.stream_id}
    return [{**_placed(proof), **about, **facts}]


_ROWS: Mapping[str, Callable[[InclusionProof], list[Document]]] = {
    "events": _event_rows,
    "ledger": _ledger_rows,
    "receipts": _rows_of("payment.fiscal."),
    "notices": _notice_rows,
    "mails": _mail_rows,
}
