"""Makes bundles from the log."""

import asyncio
import io
import zipfile
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from eventstore.database.release import RELEASE
from eventstore.decoding import Raw, persons_in, raw_rows
from eventstore.pages import COLUMNS
from eventstore.postgres_log import PostgresLog
from eventstore.proofs.documents import InclusionProof
from eventstore.proofs.keys import signing_keys
from eventstore.proofs.notes import SigningKey, parse, sign
from eventstore.proofs.proving import prove_events
from kit.forgotten import FORGOTTEN
from queries.accounts.exports import SECRET_FIELDS, SECRET_PARAMS
from queries.bundles.contents import (
    FORMAT,
    MANIFEST,
    PERSONAL,
    SIGNATURE,
    SUMMARY,
    Manifest,
    Personal,
    PersonalFields,
    Subject,
    contents_of,
    digest,
    formatted,
    signed_text,
    tables_of,
)
from queries.bundles.summary import summary
from queries.trace.flow import NothingToTrace, flow_of


class NoBundle(LookupError):
    """There is nothing of this id, or nothing of which there are bundles. The message says so."""


KINDS = ("order", "payment", "wallet", "transaction", "shipment")

MAX_EVENTS = 2_000
"""The most events of a bundle: the latest ones, if there are more."""

_STREAM = """
SELECT position FROM log.events WHERE stream_id = %s ORDER BY version DESC LIMIT %s
"""
_COUNT = "SELECT count(*) FROM log.events WHERE stream_id = %s"
_RAW = f"SELECT {COLUMNS} FROM log.events WHERE position = ANY (%s) ORDER BY position"

_DAY_OF_ZIPS = (1980, 1, 1, 0, 0, 0)
"""The time of every file: the same content makes the same zip."""


class Gathered(msgspec.Struct, frozen=True):
    """The events that belong to a subject."""

    subject: Subject
    positions: Sequence[int]
    left_out: int


async def gather(log: PostgresLog, subject_id: UUID) -> Gathered:
    """What belongs to an order, a payment, a wallet: its own events, and those of the flows that it
    was part of. Raises NoBundle."""
    try:
        flow = await flow_of(log, str(subject_id))
    except NothingToTrace as error:
        raise NoBundle(str(error)) from error
    stream = flow.streams.get(subject_id)
    kind = stream.kind if stream is not None else flow.kind
    if kind not in KINDS:
        raise NoBundle(f"a bundle is of one of {', '.join(KINDS)}; {subject_id} is of kind {kind}")
    async with log.pool.connection() as conn:
        rows = await (await conn.execute(_STREAM, (subject_id, MAX_EVENTS))).fetchall()
        count = await (await conn.execute(_COUNT, (subject_id,))).fetchone()
    own = {row[0] for row in rows}
    own |= {env.position for env in flow.events if env.stream_id == subject_id}
    found = sorted(own | {env.position for env in flow.events})
    left_out = (count[0] if count else 0) - len(own) + max(0, len(found) - MAX_EVENTS)
    left_out += flow.left_out
    left_out += sum(number for id_, number in flow.cut.items() if id_ != subject_id)
    return Gathered(Subject(kind, subject_id), found[-MAX_EVENTS:], left_out)


async def make(
    log: PostgresLog, gathered: Gathered, made_at: datetime, personal: Personal | None = None
) -> bytes:
    """The zip, by the latest checkpoint. Raises NotSignedYet, LogChanged, TreeDamaged."""
    async with log.pool.connection() as conn:
        proofs = await prove_events(conn, gathered.positions)
    origin = parse(proofs[0].checkpoint).checkpoint.origin
    key = (await signing_keys(log.pool, origin)).current
    manifest = Manifest(
        FORMAT, RELEASE, gathered.subject, made_at, gathered.positions, gathered.left_out, {}
    )
    # thousands of events take a second
    return await asyncio.to_thread(_written, proofs, manifest, personal, key, log.codec.meaning)


def _written(
    proofs: Sequence[InclusionProof],
    manifest: Manifest,
    personal: Personal | None,
    key: SigningKey,
    meaning: Callable[[str], str],
) -> bytes:
    """The zip of these proofs; `manifest` does not list the files yet."""
    files = contents_of(proofs)
    files[SUMMARY] = summary(manifest, parse(proofs[0].checkpoint), tables_of(proofs), meaning)
    if personal is not None:
        files[PERSONAL] = formatted(personal)
    listed = {name: digest(content) for name, content in sorted(files.items())}
    files[MANIFEST] = formatted(msgspec.structs.replace(manifest, files=listed))
    files[SIGNATURE] = sign(signed_text(files[MANIFEST]), [key]).encode()
    return _zipped(files)


async def persons_of(log: PostgresLog, positions: Sequence[int]) -> set[UUID]:
    """The persons that the personal fields of events are about."""
    return persons_in(log.codec, await _raw(log, positions))


async def personal_fields(log: PostgresLog, positions: Sequence[int]) -> list[PersonalFields]:
    """The decrypted personal fields of events. Those of forgotten persons read as such."""
    sealed = [row for row in await _raw(log, positions) if persons_in(log.codec, [row])]
    opened = await log.decode(sealed)
    return [
        PersonalFields(raw[0].position, raw[0].name, _opened(raw, event.event))
        for raw, event in zip(sealed, opened, strict=True)
    ]


async def _raw(log: PostgresLog, positions: Sequence[int]) -> list[Raw]:
    async with log.pool.connection() as conn:
        cursor = await conn.execute(_RAW, (list(positions),), binary=True)
        return raw_rows(await cursor.fetchall())


def _opened(raw: Raw, event: msgspec.Struct) -> dict[str, object]:
    """The fields that are ciphertext in the log, without what proves who somebody is: of mails and
    of passwords. Those of the forgotten read as FORGOTTEN."""
    stored = msgspec.json.decode(raw[1])
    plain = msgspec.to_builtins(event)
    found = {
        name: value
        for name, value in plain.items()
        if isinstance(stored.get(name), str) and stored[name] != value and name not in SECRET_FIELDS
    }
    for name, value in stored.items():  # an optional one that cannot be decrypted is absent
        sealed = isinstance(value, str) and value.startswith("1:")
        if sealed and name not in plain and name not in SECRET_FIELDS:
            found[name] = FORGOTTEN
    return {
        name: {key: each for key, each in value.items() if key not in SECRET_PARAMS}
        if isinstance(value, dict)
        else value
        for name, value in found.items()
    }


def _zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _DAY_OF_ZIPS), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
