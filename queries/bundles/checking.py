"""Checks bundles, without the log."""

import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from eventstore.database.release import RELEASE
from eventstore.proofs import documents
from eventstore.proofs.documents import InclusionProof
from eventstore.proofs.notes import (
    BadNote,
    BadSignature,
    Checkpoint,
    Note,
    PublicKey,
    parse,
    parse_text,
)
from queries.bundles.contents import (
    CHECKPOINT,
    FORMAT,
    MANIFEST,
    SIGNATURE,
    SUMMARY,
    Manifest,
    contents_of,
    digest,
    proof_file,
    signed_text,
    tables_of,
)
from queries.bundles.summary import summary

MAX_BYTES = 512 * 1024 * 1024
MAX_FILES = 10_000
_PART = 64 * 1024
"""How many bytes of a file are unpacked at once."""


class BadBundle(ValueError):
    """The file is no bundle, or a cut one. The message says why."""


class CheckedBundle(msgspec.Struct, frozen=True):
    """What a bundle is of, what is wrong with it, and what is to be noted."""

    manifest: Manifest
    checkpoint: Checkpoint | None
    faults: Sequence[str]
    notes: Sequence[str]


def check(
    path: Path,
    keys: Sequence[PublicKey],
    meaning: Callable[[str], str],
    held: Checkpoint | None = None,
) -> CheckedBundle:
    """Check a bundle with the keys that sign the log's checkpoints. `meaning` tells what an event
    of a name is; `held` is a checkpoint that was kept elsewhere. Raises BadBundle, OSError."""
    files = _read(path)
    if MANIFEST not in files or SIGNATURE not in files:
        raise BadBundle("no bundle: it has no signed manifest")
    try:
        manifest = msgspec.json.decode(files[MANIFEST], type=Manifest)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadBundle(f"its manifest cannot be read: {error}") from error
    if manifest.format != FORMAT:
        raise BadBundle(f"of the form {manifest.format}, and this program knows {FORMAT}")
    if len(manifest.positions) > MAX_FILES:
        raise BadBundle("its manifest lists too many events")
    faults = [*_signature(files, keys), *_differing(files, manifest)]
    note, proofs, found = _proofs(files, manifest, keys, held)
    faults += found
    notes: list[str] = []
    if note is not None and not found:
        retold = [*_retold(files, manifest, proofs, note, meaning)]
        if manifest.release == RELEASE:
            faults += retold
        elif retold:
            notes = [
                f"{', '.join(retold)}: release {manifest.release} made it, and this is {RELEASE}"
            ]
    return CheckedBundle(manifest, note.checkpoint if note else None, faults, notes)


def _read(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            listed = archive.infolist()
            if len(listed) > MAX_FILES or sum(each.file_size for each in listed) > MAX_BYTES:
                raise BadBundle("no bundle: it is too large")
            if not all(each.filename.isprintable() for each in listed):  # they are shown
                raise BadBundle("no bundle: a name in it has control characters")
            if len({each.filename for each in listed}) != len(listed):
                raise BadBundle("no bundle: it has two files of the same name")
            return {each.filename: _content(archive, each) for each in listed}
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise BadBundle(f"no zip, or a cut or changed one: {error}") from error


def _content(archive: zipfile.ZipFile, listed: zipfile.ZipInfo) -> bytes:
    """A file of at most the size that the zip lists for it: `ZipFile.read` unpacks all there is
    before it compares."""
    if listed.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise BadBundle(f"no bundle: {listed.filename!a} is packed in another way than bundles are")
    with archive.open(listed) as file:
        found = bytearray()
        while part := file.read(_PART):
            found += part
        return bytes(found)


def _signature(files: dict[str, bytes], keys: Sequence[PublicKey]) -> list[str]:
    try:
        signed = parse_text(files[SIGNATURE].decode())
        signed.signed_by(keys)
    except (BadNote, BadSignature, UnicodeError) as error:
        return [f"{SIGNATURE}: {error}"]
    if signed.text != signed_text(files[MANIFEST]):
        return [f"{MANIFEST}: changed: its signature is of another one"]
    return []


def _differing(files: dict[str, bytes], manifest: Manifest) -> list[str]:
    """The files that are not what the manifest says."""
    there = files.keys() - {MANIFEST, SIGNATURE}
    faults = [f"{name}: missing" for name in sorted(manifest.files.keys() - there)]
    faults += [f"{name}: added" for name in sorted(there - manifest.files.keys())]
    return faults + [
        f"{name}: changed"
        for name in sorted(there & manifest.files.keys())
        if digest(files[name]) != manifest.files[name]
    ]


def _proofs(
    files: dict[str, bytes],
    manifest: Manifest,
    keys: Sequence[PublicKey],
    held: Checkpoint | None,
) -> tuple[Note | None, list[InclusionProof], list[str]]:
    """The checkpoint, the proofs, and what is wrong with them."""
    try:
        text = files[CHECKPOINT].decode()
        note = parse(text)
        note.signed_by(keys)
        if held is not None:
            documents.must_be_held([note.checkpoint], held)
    except (KeyError, BadNote, BadSignature, documents.BadProof, UnicodeError) as error:
        return None, [], [f"{CHECKPOINT}: {error}"]
    proofs, faults = [], []
    for position in manifest.positions:
        name = proof_file(position)
        try:
            proof = documents.decode(files.get(name, b""))
            documents.check_path(proof, note.checkpoint, keys)
        except (documents.BadProof, BadNote, BadSignature) as error:
            faults.append(f"{name}: {error}")
            continue
        if not isinstance(proof, InclusionProof) or proof.position != position:
            faults.append(f"{name}: a proof of something else")
        elif proof.checkpoint != text:
            faults.append(f"{name}: it leads to another checkpoint")
        else:
            proofs.append(proof)
    if not manifest.positions:
        faults.append(f"{MANIFEST}: it lists no event")
    return note, proofs, faults


def _retold(
    files: dict[str, bytes],
    manifest: Manifest,
    proofs: Sequence[InclusionProof],
    note: Note,
    meaning: Callable[[str], str],
) -> list[str]:
    """The files that do not say what the proven events say."""
    expected = contents_of(proofs)
    expected[SUMMARY] = summary(manifest, note, tables_of(proofs), meaning)
    return [
        f"{name}: not what the proven events say"
        for name in sorted(expected)
        if files.get(name) != expected[name]
    ]
