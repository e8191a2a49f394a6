"""`ludoteca audit verify`: prove that the log was not changed."""

from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli_commands import acting, opening
from runtime.cli_commands.audit import keys
from runtime.cli_commands.failures import Failure
from runtime.cli_commands.opening import Json
from runtime.output import console
from runtime.output.console import Code
from runtime.output.files import writing

if TYPE_CHECKING:
    from eventstore.proofs.notes import Checkpoint
    from runtime.audit.chain import Anchor, Finding

NOTED_SECONDS = 1.0
"""How often the file of `--resume` is written."""

_AN_ANCHOR = (
    "an anchor is POSITION:HASH, a number and 64 hexadecimal digits, as `audit verify` prints it"
)


def verify(
    from_anchor: Annotated[
        str | None,
        typer.Option(
            "--from-anchor",
            metavar="POSITION:HASH",
            help="Start at an anchor that an earlier run printed.",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            parser=opening.named_path,
            metavar="FILE",
            help="Start at the anchor in this file, if there is one, and keep it up to date there.",
        ),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            "--checkpoint",
            parser=opening.named_path,
            metavar="FILE",
            help="Compare the log with a signed checkpoint that was kept elsewhere.",
        ),
    ] = None,
    key: keys.Keys = None,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, max=64, help="How many processes verify.")
    ] = 1,
    reason: acting.ReasonToRecord = None,
    json: Json = False,
) -> None:
    """Verify the hash chain: each event's hash covers its content, position and time, and the hash
    before it.

    Prints the position and hash of the last event as an anchor. Note it somewhere else: nobody can
    rewrite the log so that it fits a noted anchor, or a signed checkpoint. Verify the whole log
    once, then continue from the last anchor. A consumer whose checkpoint is beyond the log's end
    shows that events were removed from the end. Exit code 1 if there is a fault, with its position
    and kind.

    [bold]Examples[/bold]
      ludoteca audit verify --jobs 4
      ludoteca audit verify --from-anchor 81250:6b1f…e2
      ludoteca audit verify --resume anchor.txt
      ludoteca audit verify --checkpoint 81250.txt --key shop.example/log+c74f20a3+ARpc…
    """
    from runtime.audit.chain import audit

    if from_anchor is not None and resume is not None:
        raise Failure("either --from-anchor or --resume", Code.USAGE)
    anchor = None if from_anchor is None else _anchor(from_anchor)
    noted = None if resume is None else _Noted(resume)
    if noted is not None:
        anchor = noted.read()
    settings = opening.quiet_settings()
    url = opening.running_url(settings)
    checkpoints = [keys.checkpoint_of(url, path, key) for path in checkpoint or ()]
    with (
        acting.noting(settings, "log.verify", reason=reason) as act,
        console.progress() as progress,
    ):
        finding = audit(url, anchor, checkpoints, progress, jobs=jobs, reached=noted)
        act.affected = finding.position - finding.after
        act.details = {"anchor": f"{finding.position}:{finding.hash.hex()}"}
        faults = [f"position {fault.position}: {fault.reason}" for fault in finding.faults]
        act.error = "; ".join(faults) or None
    if noted is not None:
        noted.write()
    if json:
        console.print_json({"intact": not finding.faults, **_fields(finding)})
    else:
        _tell(finding, checkpoints)
    if finding.faults:
        raise typer.Exit(Code.DIFFERS)


def _anchor(text: str) -> "Anchor":
    from runtime.audit.chain import Anchor

    position, _, digest = text.strip().partition(":")
    try:
        hash_ = bytes.fromhex(digest)
        if not position.isdecimal() or len(position) > 18 or len(hash_) != 32:
            raise ValueError(text)
    except ValueError:
        raise Failure(_AN_ANCHOR, Code.USAGE) from None
    return Anchor(int(position), hash_)


class _Noted:
    """Keeps the last anchor in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._last: Anchor | None = None
        self._written = monotonic()

    def read(self) -> "Anchor | None":
        """The anchor in the file; None while there is no file."""
        try:
            text = self._file.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
        try:
            return _anchor(text)
        except Failure as failure:
            message = f"{self._file} has no anchor: {failure.message}"
            raise Failure(message, Code.USAGE) from None

    def __call__(self, anchor: "Anchor") -> None:
        self._last = anchor
        if monotonic() - self._written >= NOTED_SECONDS:
            self.write()

    def write(self) -> None:
        if self._last is None:
            return
        with writing(self._file) as file:
            file.write(f"{self._last}\n".encode())
        self._written = monotonic()


def _fields(finding: "Finding") -> dict[str, object]:
    return {
        "after": finding.after,
        "position": finding.position,
        "hash": finding.hash.hex(),
        "anchor": f"{finding.position}:{finding.hash.hex()}",
        "faults": finding.faults,
    }


def _tell(finding: "Finding", checkpoints: "Sequence[Checkpoint]") -> None:
    for fault in finding.faults:
        console.say(f"FAULT at position {fault.position}: {fault.reason}")
    if finding.position > finding.after:
        checked = f"positions {finding.after + 1} to {finding.position}"
    elif finding.after:
        checked = f"no event after position {finding.after}; those up to it were not read again"
    else:
        checked = "no event"
    if finding.faults:
        console.say(f"intact before it: {checked}")
        return
    console.say(f"intact: {checked}")
    for held in checkpoints:
        console.say(f"it is the log of the signed checkpoint of {held.size} events")
    console.say(f"position  {finding.position}")
    console.say(f"hash      {finding.hash.hex()}")
    console.say(f"anchor    {finding.position}:{finding.hash.hex()}")
