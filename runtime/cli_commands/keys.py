"""`ludoteca keys`: the master key, which wraps the keys of persons and the program's secrets."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli_commands import acting, opening
from runtime.cli_commands.failures import Failure
from runtime.cli_commands.opening import Json
from runtime.output import console
from runtime.output.console import Code

if TYPE_CHECKING:
    import psycopg

    from eventstore.master_keys import MasterKeySource
    from projections.engine.erasing import Erased
    from runtime.settings import Settings

app = typer.Typer(
    no_args_is_help=True, help="The master key, which wraps persons' keys and the secrets."
)


@app.command()
def show(json: Json = False) -> None:
    """Show the master keys that the shop has used, how many keys and secrets each wraps, and who
    was forgotten and is not erased from the disk yet.

    [bold]Example[/bold]
      ludoteca keys show
    """
    from eventstore import rewrapping
    from eventstore.master_keys import KEYRING
    from projections.engine import erasing

    with _owner(opening.quiet_settings()) as conn:
        found, unwrapped = rewrapping.states(conn)
        waiting = erasing.waiting(conn)
    keys = [
        {
            "id": state.key_id.hex(),
            "current": state.is_current,
            "since": state.began_at,
            "wraps": state.wraps,
            "at_hand": KEYRING.has(state.key_id),
        }
        for state in found
    ]
    if json:
        console.print_json({"master_keys": keys, "unwrapped": unwrapped, "to_be_erased": waiting})
        return
    console.table(
        ("master key", "is", "since", "wraps", "at hand"),
        [
            (
                key["id"],
                "current" if key["current"] else "replaced",
                f"{key['since']:%F %T}",
                key["wraps"],
                console.verdict(bool(key["at_hand"])),
            )
            for key in keys
        ],
        empty="no master key is in use yet",
    )
    if unwrapped:
        console.say(f"{unwrapped:,} keys and secrets are stored unwrapped: ludoteca keys rotate")
    for each in waiting:
        console.say(f"to be erased since {each.destroyed_at:%F %T}: {each.person_id}")


@app.command()
def rotate(
    only_add: Annotated[
        bool,
        typer.Option(
            "--only-add",
            help=(
                "Only add a new master key to the file, to be copied to other machines; the next"
                " rotation uses it."
            ),
        ),
    ] = False,
    reason: acting.Reason = None,
    json: Json = False,
) -> None:
    """Replace the master key, while the shop runs, and wrap all keys and secrets by the new one.
    The first rotation wraps what an older release stored unwrapped.

    The new master key is added to the file of LUDOTECA_MASTER_KEY_FILE, beside the one before,
    which stays until you remove its line; at the end this command says which may go. Where
    machines have files of their own, run it with --only-add, copy the file to all, and run it
    again. If it is stopped, run it again.

    [bold]Examples[/bold]
      ludoteca keys rotate
      ludoteca keys rotate --only-add
    """
    from eventstore import rewrapping
    from runtime.database import key_rotation

    settings = opening.quiet_settings()
    source, why = _source(settings), acting.reason_for(reason)
    with _owner(settings) as conn:
        if only_add:
            with acting.acting(settings, "keys.add", target=str(source), reason=why) as act:
                added = key_rotation.add_key(conn, source).hex()
                act.affected, act.details = 1, {"master_key": added}
            if json:
                console.print_json({"added": added})
            else:
                console.say(f"{source} has the master key {added}, which is not used yet")
            return
        found, unwrapped = rewrapping.states(conn)
        total = unwrapped + sum(each.wraps for each in found)
        with (
            acting.acting(settings, "keys.rotate", target=str(source), reason=why) as act,
            console.progress() as progress,
        ):
            done = key_rotation.rotate(conn, source, partial(_tell, progress, total))
            act.affected, act.details = done.rewrapped, {"master_key": done.current}
    with console.reporting():
        if json:
            console.print_json(done)
            return
        what = "completed the rotation that was begun" if done.continued else "rotated"
        console.say(
            f"{what}: {done.rewrapped:,} keys and secrets were wrapped anew; the master key is"
            f" {done.current}"
        )
        for key_id in done.unused:
            console.say(f"{key_id} wraps nothing any more: destroy it, here and in all its copies")


@app.command()
def erase(reason: acting.Reason = None, json: Json = False) -> None:
    """Erase now what the disk still has of forgotten persons; otherwise the worker does it within
    ten minutes.

    The tables with keys and personal data are written anew, without dead rows, for which each is
    locked (some seconds per million persons); the write-ahead log is cut off; files of mails and
    push notifications on this machine are deleted. Exit code 1 if something is in the way, with
    what it is: then try again. docs/privacy.md says what no command can erase.

    [bold]Example[/bold]
      ludoteca keys erase
    """
    import asyncio

    from projections.registry import read_models
    from runtime.processes.erasing import delete_messages, erase_from_database

    settings = opening.quiet_settings()

    async def messages() -> int:
        async with opening.core(settings) as core:
            return await delete_messages(core)

    why = acting.reason_for(reason)
    with opening.database(settings) as url:
        opening.require_this_release(url)
        with acting.acting(settings, "keys.erase", reason=why) as act:
            done = erase_from_database(url, {each.projection.name: each for each in read_models()})
            files = asyncio.run(messages())
            act.affected, act.details = done.persons, {"files": str(files)}
            act.error = "; ".join(done.reasons) or None
    with console.reporting():
        if json:
            console.print_json({**_fields(done), "files": files})
        else:
            for obstacle in done.reasons:
                console.say(f"not yet: {obstacle}")
            console.say(
                f"{done.persons} persons erased, {done.waiting} wait; {files} files deleted"
            )
            if not done.log_cut:
                console.say(
                    "the write-ahead log was not cut off: the database's user may not do it"
                )
    if done.waiting:
        raise typer.Exit(Code.DIFFERS)


@contextmanager
def _owner(settings: "Settings") -> "Iterator[psycopg.Connection]":
    """A connection as the tables' owner."""
    from eventstore.database.postgres import connect

    with opening.database(settings) as url:
        opening.require_this_release(url)
        with connect(url, "ludoteca keys", role="") as conn:
            yield conn


def _source(settings: "Settings") -> "MasterKeySource":
    from runtime.wiring.master_key import key_file

    file = key_file(settings)
    if file is None:
        raise Failure(
            "set LUDOTECA_MASTER_KEY_FILE to the file that has, or will have, the master keys",
            Code.USAGE,
        )
    return file


def _fields(done: "Erased") -> dict[str, object]:
    import msgspec

    return msgspec.structs.asdict(done)


def _tell(progress: console.Progress, total: int, done: int) -> None:
    progress("keys wrapped anew", done, max(done, total))
