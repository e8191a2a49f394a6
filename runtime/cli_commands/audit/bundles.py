"""`ludoteca audit bundle` and `check-bundle`: evidence of an order, a wallet or a payment."""

import asyncio
import getpass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from runtime.cli_commands import opening
from runtime.cli_commands.audit import keys
from runtime.cli_commands.failures import Failure
from runtime.cli_commands.opening import Json
from runtime.output import console
from runtime.output.console import Code
from runtime.output.files import writing

if TYPE_CHECKING:
    from queries.bundles.contents import Personal
    from queries.bundles.making import Gathered
    from runtime.wiring.core import Core


def bundle(
    subject: Annotated[
        UUID, typer.Argument(help="An order, payment, wallet, transaction or shipment.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", parser=opening.named_path, metavar="FILE.zip"),
    ],
    with_personal_data: Annotated[
        bool,
        typer.Option(
            "--with-personal-data", help="With names, addresses, texts of mails; needs --reason."
        ),
    ] = False,
    reason: Annotated[
        str, typer.Option("--reason", help="Why personal data is handed out: it is recorded.")
    ] = "",
    json: Json = False,
) -> None:
    """Write an evidence bundle: one zip with the proofs of all events that belong to an order, a
    wallet or a payment, the signed checkpoint, ledger entries, receipts, the notices of the payment
    provider, facts about mails, and a summary for people. Signs a checkpoint first if one of the
    events is in none yet.

    Personal data is left out, unless asked for; who had it, and why, is then recorded in the log.

    [bold]Examples[/bold]
      ludoteca audit bundle 0197…c4 --output order.zip
      ludoteca audit bundle 0197…c4 --output order.zip --with-personal-data --reason "court, 12/26"
    """
    from eventstore.proofs.signing import sign_checkpoint
    from queries.bundles.contents import is_forgotten
    from queries.bundles.making import NoBundle, gather, make
    from runtime.wiring.core import open_core

    if with_personal_data != bool(reason.strip()):
        raise Failure("--with-personal-data and --reason belong together", Code.USAGE)
    settings = opening.quiet_settings()
    opening.running_url(settings)

    async def main() -> "tuple[Gathered, bytes, Personal | None]":
        async with open_core(settings) as core:
            try:
                gathered = await gather(core.log, subject)
            except NoBundle as error:
                raise Failure(str(error)) from None
            personal = await _disclosed(core, gathered, reason) if with_personal_data else None
            await sign_checkpoint(core.log)
            content = await make(core.log, gathered, datetime.now(UTC), personal)
            return gathered, content, personal

    gathered, content, personal = asyncio.run(main())
    with writing(output) as file:
        file.write(content)
    found = {
        "subject": gathered.subject,
        "events": len(gathered.positions),
        "left_out": gathered.left_out,
        "bytes": len(content),
    }
    unreadable = 0 if personal is None else sum(map(is_forgotten, personal.events))
    if unreadable:
        console.note(
            f"the personal data of {unreadable} events cannot be read any more: somebody was"
            " forgotten"
        )
    if json:
        console.print_json({**found, "forgotten_events": unreadable})
        return
    console.say(f"bundle of the {gathered.subject.kind} {gathered.subject.id}: {output}")
    console.say(f"events    {len(gathered.positions)}")
    if gathered.left_out:
        console.say(f"left out  {gathered.left_out} earlier events")


async def _disclosed(core: "Core", gathered: "Gathered", reason: str) -> "Personal":
    """The personal data, once it is recorded who has it, and why."""
    from commands.caller import Caller
    from queries.bundles import contents
    from queries.bundles.making import personal_fields, persons_of

    subject, caller = gathered.subject, Caller(f"operator:{_user()}")
    persons = await persons_of(core.log, gathered.positions)
    made = await core.commands.disclosures.disclose(
        caller, subject.kind, subject.id, persons, reason
    )
    return contents.Personal(made, reason, await personal_fields(core.log, gathered.positions))


def _user() -> str:
    """The login name of the user who runs the command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def check_bundle(
    file: Annotated[
        Path, typer.Argument(parser=opening.named_path, metavar="FILE.zip", help="A bundle.")
    ],
    key: keys.Keys = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            parser=opening.named_path,
            metavar="FILE",
            help="A signed checkpoint that you hold: the bundle's must be the same.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Check an evidence bundle, without database and network: each proof, and that every other file
    says what the proven events say. Exit code 1 if it does not hold, with what differs.

    [bold]Example[/bold]
      ludoteca audit check-bundle order.zip --key ludoteca.log/6b1f…+c74f20a3+ARpc…
    """
    from eventstore.proofs.notes import BadNote, BadSignature
    from queries.bundles.checking import BadBundle, check
    from runtime.wiring.codec import codec

    known = keys.required(key)
    try:
        held = keys.held(checkpoint, known)
        with opening.reading(file):
            checked = check(file, known, codec().meaning, held)
    except (BadBundle, BadNote, BadSignature) as error:
        if json:
            console.print_json({"holds": False, "faults": [str(error)]})
            raise typer.Exit(Code.DIFFERS) from None
        raise Failure(f"the bundle does NOT hold: {error}") from None
    manifest = checked.manifest
    if json:
        found = {"subject": manifest.subject, "events": len(manifest.positions)}
        console.print_json(
            {"holds": not checked.faults, "faults": checked.faults, "notes": checked.notes, **found}
        )
    else:
        for fault in checked.faults:
            console.say(f"DIFFERS: {fault}")
        for note in checked.notes:
            console.say(f"note: {note}")
        if not checked.faults and checked.checkpoint:
            subject, end = manifest.subject, checked.checkpoint
            console.say(
                f"holds: {len(manifest.positions)} events of the {subject.kind} {subject.id}"
            )
            console.say(f"log    {end.origin}, of {end.size} events")
    if checked.faults:
        raise typer.Exit(Code.DIFFERS)
