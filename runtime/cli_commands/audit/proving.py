"""`ludoteca audit prove`, `check-proof`, `checkpoint`, `keys` and `rebuild-tree`: signed
checkpoints, and proofs that others can check."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from runtime.cli_commands import acting, opening
from runtime.cli_commands.audit import keys
from runtime.cli_commands.failures import Failure
from runtime.cli_commands.opening import Json
from runtime.output import console
from runtime.output.console import Code
from runtime.output.files import writing

if TYPE_CHECKING:
    import psycopg

    from eventstore.postgres_log import PostgresLog
    from eventstore.proofs.documents import Proof
    from eventstore.proofs.heads import Head
    from eventstore.proofs.keys import KnownKey
    from queries.operations.self_audit import Look

T = TypeVar("T")


def _over_the_log(work: "Callable[[PostgresLog], Awaitable[T]]") -> T:
    async def main() -> T:
        async with opening.log(opening.quiet_settings()) as log:
            return await work(log)

    return asyncio.run(main())


def prove(
    position: Annotated[
        int | None, typer.Argument(min=1, help="Prove the event at this position.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option("--size", min=1, help="By the checkpoint of so many events; else the latest."),
    ] = None,
    old: Annotated[
        int | None,
        typer.Option("--from", min=1, help="Prove that the log of so many events is the beginning"),
    ] = None,
    new: Annotated[
        int | None, typer.Option("--to", min=1, help="… of the log of so many events.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", parser=opening.named_path, metavar="FILE", help="Otherwise on stdout."
        ),
    ] = None,
) -> None:
    """Prove that the log has an event, or that one checkpoint's log begins with another's: a file
    that anybody can check with the public key, without the log (docs/proofs.md).

    Signs a checkpoint first if none has the event yet.

    [bold]Examples[/bold]
      ludoteca audit prove 81250 > proof.json
      ludoteca audit prove --from 80000 --to 81250 > consistency.json
    """
    from eventstore.proofs.documents import encode

    if (position is None) == (old is None and new is None) or (old is None) != (new is None):
        raise Failure("either a position, or --from and --to", Code.USAGE)

    async def work(log: "PostgresLog") -> "Proof":
        if old is not None and new is not None:
            return await _proven(log, old, new)
        assert position is not None
        return await _proven_event(log, position, size)

    proof = encode(_over_the_log(work))
    with writing(output) as file:
        file.write(proof)


async def _proven(log: "PostgresLog", old: int, new: int) -> "Proof":
    from eventstore.proofs.heads import NoCheckpoint
    from eventstore.proofs.proving import prove_consistency

    async with log.pool.connection() as conn:
        try:
            return await prove_consistency(conn, old, new)
        except NoCheckpoint as error:
            code = Code.USAGE if old > new else Code.DIFFERS
            raise Failure(str(error), code) from None


async def _proven_event(log: "PostgresLog", position: int, size: int | None) -> "Proof":
    from eventstore.proofs.heads import NoCheckpoint
    from eventstore.proofs.proving import NoSuchPosition, NotSignedYet, prove_event
    from eventstore.proofs.signing import sign_checkpoint

    for attempt in (1, 2):
        async with log.pool.connection() as conn:
            try:
                return await prove_event(conn, position, size)
            except (NoCheckpoint, NoSuchPosition) as error:
                raise Failure(str(error)) from None
            except NotSignedYet:
                if attempt == 2:
                    raise
        with console.progress() as progress:
            await sign_checkpoint(log, partial(progress, "signing"))
    raise AssertionError("unreachable")


def check_proof(
    file: Annotated[
        Path,
        typer.Argument(
            parser=opening.named_path, metavar="FILE", help="By `ludoteca audit prove`."
        ),
    ],
    key: keys.Keys = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            parser=opening.named_path,
            metavar="FILE",
            help="A signed checkpoint that you hold: the proof must be about it.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Check a proof, without database and network. Exit code 1 if it does not hold.

    [bold]Example[/bold]
      ludoteca audit check-proof proof.json --key ludoteca.log/6b1f…+c74f20a3+ARpc…
    """
    from eventstore.proofs import documents
    from eventstore.proofs.notes import BadNote, BadSignature

    known = keys.required(key)
    content = _read(file, documents.MAX_BYTES)
    try:
        held = keys.held(checkpoint, known)
        checked = documents.check(documents.decode(content), known, held)
    except (documents.BadProof, BadNote, BadSignature) as error:
        if json:
            console.print_json({"holds": False, "reason": str(error)})
            raise typer.Exit(Code.DIFFERS) from None
        raise Failure(f"the proof does NOT hold: {error}") from None
    if json:
        console.print_json({"holds": True, **{n: getattr(checked, n) for n in _SHOWN}})
        return
    console.say(f"holds: {checked.statement}")
    console.say(f"log        {checked.origin}, of {checked.size} events")
    console.say(f"signed by  {', '.join(checked.signed_by)}")


_SHOWN = ("statement", "origin", "size", "signed_by")


def _read(file: Path, most: int) -> bytes:
    with opening.reading(file), file.open("rb") as opened:
        content = opened.read(most + 1)
    if len(content) > most:
        raise Failure(f"{file}: it is too large to be a proof")
    return content


def checkpoint(json: Json = False) -> None:
    """Sign a checkpoint of the log as it is now, and print it: text that others can keep. It is
    also in HOME/checkpoints, as are those that the worker signs by itself.

    Verifies what was appended since the last one. If the shop's audit of itself has found that an
    earlier event was changed, that is noted: the checkpoint says what the log was when it was
    signed.

    [bold]Example[/bold]
      ludoteca audit checkpoint > today.txt
    """
    from eventstore.proofs.signing import sign_checkpoint
    from queries.operations.self_audit import OF_THE_LOG, violated
    from runtime.audit.checkpoint_files import CheckpointFiles

    settings = opening.quiet_settings()
    with console.progress() as progress:
        told = partial(progress, "signing")

        async def work(log: "PostgresLog") -> "tuple[Head, list[Look]]":
            return await sign_checkpoint(log, told), await violated(log.pool, OF_THE_LOG)

        head, found = _over_the_log(work)
    CheckpointFiles(settings.home).write([head])
    for look in found:
        console.note(
            f"the shop's audit of itself found at {look.looked_at:%F %T}Z that {look.invariant} is"
            " violated: `ludoteca audit verify` tells where"
        )
    if json:
        console.print_json(
            {"size": head.size, "root": head.root.hex(), "hash": head.hash.hex(), "note": head.note}
        )
    else:
        console.say(head.note.removesuffix("\n"))


def keys_(
    rotate: Annotated[
        bool,
        typer.Option(
            "--rotate", help="Have a new key sign from now on; the old one vouches for it."
        ),
    ] = False,
    reason: acting.Reason = None,
    json: Json = False,
) -> None:
    """List the public keys that sign checkpoints, each with the sizes of the log that it signs.
    Hand the current one to whoever is to check proofs.

    [bold]Examples[/bold]
      ludoteca audit keys
      ludoteca audit keys --rotate
    """
    from eventstore.proofs.signing import rotate_key

    if rotate:
        settings, why = opening.quiet_settings(), acting.reason_for(reason)
        _over_the_log(rotate_key)
        # afterwards: a key signs from the size on that the log has when it is asked for
        with acting.acting(settings, "checkpoint_key.rotate", reason=why) as act:
            act.affected = 1

    async def work(log: "PostgresLog") -> "list[KnownKey]":
        async with log.pool.connection() as conn:
            return await _known(conn)

    found = _over_the_log(work)
    if json:
        fields = ("number", "since", "until")
        console.print_json(
            [{"key": str(each.key), **{n: getattr(each, n) for n in fields}} for each in found]
        )
        return
    for each in found:
        until = "now" if each.until is None else str(each.until)
        console.note(f"key {each.number}, signs from {each.since} events to {until}:")
        console.say(str(each.key))


async def _known(conn: "psycopg.AsyncConnection") -> "list[KnownKey]":
    from eventstore.proofs.keys import known_keys
    from eventstore.proofs.origin import origin

    name = await origin(conn)
    if name is None:
        raise Failure("the log has no event yet: its keys get their name from the first one")
    found = await known_keys(conn, name)
    if not found:
        raise Failure("nothing was signed yet: `ludoteca audit checkpoint` does so")
    return found


def rebuild_tree(reason: acting.Reason = None, json: Json = False) -> None:
    """Compute the stored part of the Merkle tree anew from the log. Exit code 1 if the log does not
    lead to the root that was signed.

    [bold]Example[/bold]
      ludoteca audit rebuild-tree
    """
    from eventstore.proofs.signing import rebuild_tree

    settings, why = opening.quiet_settings(), acting.reason_for(reason)
    with (
        acting.acting(settings, "log.rebuild_tree", reason=why) as act,
        console.progress() as progress,
    ):
        told = partial(progress, "tree")
        act.affected = size = _over_the_log(lambda log: rebuild_tree(log, told))
    if json:
        console.print_json({"size": size})
    else:
        console.say(f"the tree of {size} events leads to the root that was signed")
