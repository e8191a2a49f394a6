"""`ludoteca audit verify`: prove that the log was not changed."""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from runtime import console
from runtime.cli_commands import opening
from runtime.cli_commands.failures import Failure
from runtime.cli_commands.opening import Json
from runtime.console import Code

if TYPE_CHECKING:
    from runtime.chain_audit import Anchor, Finding


def verify(
    from_anchor: Annotated[
        str | None,
        typer.Option(
            "--from-anchor",
            metavar="POSITION:HASH",
            help="Start at an anchor that an earlier run printed.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Verify the hash chain: each event's hash covers its content, position and time, and the hash
    before it.

    Prints the position and hash of the last event as an anchor. Note it somewhere else: nobody can
    rewrite the log so that it fits a noted anchor. Verify the whole log once, then continue from
    the last anchor. A consumer whose checkpoint is beyond the log's end shows that events were
    removed from the end. Exit code 1 if there is a fault, with its position and kind.

    [bold]Examples[/bold]
      ludoteca audit verify
      ludoteca audit verify --from-anchor 81250:6b1f…e2
    """
    from runtime.chain_audit import audit

    anchor = None if from_anchor is None else _anchor(from_anchor)

    async def main() -> "Finding":
        async with opening.log(opening.quiet_settings()) as log:
            with console.progress() as progress:
                return await audit(log, anchor, partial(progress, "audit"))

    finding = asyncio.run(main())
    if json:
        console.print_json({"intact": not finding.faults, **_fields(finding)})
    else:
        _tell(finding)
    if finding.faults:
        raise typer.Exit(Code.DIFFERS)


def _anchor(text: str) -> "Anchor":
    from runtime.chain_audit import Anchor

    position, _, digest = text.partition(":")
    try:
        hash_ = bytes.fromhex(digest)
        if not position.isdigit() or len(hash_) != 32:
            raise ValueError(text)
    except ValueError:
        raise Failure(
            "an anchor is POSITION:HASH, a number and 64 hexadecimal digits, as `audit verify`"
            " prints it",
            Code.USAGE,
        ) from None
    return Anchor(int(position), hash_)


def _fields(finding: "Finding") -> dict[str, object]:
    return {
        "after": finding.after,
        "position": finding.position,
        "hash": finding.hash.hex(),
        "anchor": f"{finding.position}:{finding.hash.hex()}",
        "faults": finding.faults,
    }


def _tell(finding: "Finding") -> None:
    for fault in finding.faults:
        console.say(f"FAULT at position {fault.position}: {fault.reason}")
    checked = (
        f"positions {finding.after + 1} to {finding.position}"
        if finding.position > finding.after
        else "no event"
    )
    if finding.faults:
        console.say(f"intact before it: {checked}")
        return
    console.say(f"intact: {checked}")
    console.say(f"position  {finding.position}")
    console.say(f"hash      {finding.hash.hex()}")
    console.say(f"anchor    {finding.position}:{finding.hash.hex()}")
