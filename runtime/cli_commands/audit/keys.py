"""Public keys and signed checkpoints, as the commands of `ludoteca audit` take them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli_commands import opening
from runtime.cli_commands.failures import Failure
from runtime.output.console import Code

if TYPE_CHECKING:
    from eventstore.proofs.notes import Checkpoint, PublicKey

Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        metavar="KEY|FILE",
        help="A key that signs checkpoints, as `audit keys` prints it, or a file with keys. One"
        " that you keep, not the log's own.",
    ),
]

_LARGEST = 64 * 1024


def parsed(keys: Sequence[str] | None) -> "list[PublicKey]":
    """The keys that were given, each itself or in a file of them, a line each."""
    from eventstore.proofs.notes import BadNote, PublicKey

    found = []
    for given in keys or ():
        file = Path(given)
        lines = [given]
        if _exists(file):
            lines = [line for line in read(file).splitlines() if line.strip()]
        elif "+" not in given:
            raise Failure(f"{given[:100]} is neither a key nor a file with keys", Code.USAGE)
        for line in lines:
            try:
                found.append(PublicKey.parse(line))
            except BadNote as error:
                raise Failure(f"{given}: {error}", Code.USAGE) from None
    return found


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except OSError:  # no name that a file could have
        return False


def required(keys: Sequence[str] | None) -> "list[PublicKey]":
    """As `parsed`, for checks without the log. Raises Failure if there is none."""
    if not (known := parsed(keys)):
        raise Failure(
            "--key is missing: a proof proves as much as the key is known to be the log's",
            Code.USAGE,
        )
    return known


def held(file: Path | None, known: "Sequence[PublicKey]") -> "Checkpoint | None":
    """The checkpoint in a file, if one is given, once its signature by one of these keys was
    verified. Raises BadNote, BadSignature, Failure."""
    from eventstore.proofs.notes import BadNote, BadSignature, parse

    if file is None:
        return None
    try:
        note = parse(read(file))
        note.signed_by(known)
    except (BadNote, BadSignature) as error:
        raise type(error)(f"{file}: {error}") from None
    return note.checkpoint


def read(file: Path) -> str:
    """A small text file. Raises Failure."""
    with opening.reading(file), file.open("rb") as opened:
        content = opened.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise Failure(f"{file}: it is too large to be a checkpoint or a key", Code.USAGE)
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Failure(f"{file}: it is no text", Code.USAGE) from None


def checkpoint_of(url: str, file: Path, keys: Sequence[str] | None) -> "Checkpoint":
    """The checkpoint in a file, once its signature was verified: by these keys, or else by those
    that the database has."""
    from eventstore.database.postgres import connect
    from eventstore.proofs.keys import known_keys_now
    from eventstore.proofs.notes import BadNote, BadSignature, parse

    known = parsed(keys)
    try:
        checkpoint = parse(read(file)).checkpoint
        if not keys:
            with connect(url, "ludoteca audit") as conn:
                own = known_keys_now(conn, checkpoint.origin)
            known = [each.key for each in own if each.may_sign(checkpoint.size)]
        held(file, known)
    except BadNote as error:
        raise Failure(f"{file}: {error}", Code.USAGE) from None
    except BadSignature as error:
        raise Failure(str(error)) from None
    return checkpoint
