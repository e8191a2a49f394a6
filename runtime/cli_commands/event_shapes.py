"""`ludoteca events check`, whether this release reads what another one wrote, and `ludoteca events
catalog`, which events there are. Neither needs a database."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli_commands import opening
from runtime.cli_commands.failures import Failure, unknown
from runtime.output import console
from runtime.output.console import Code

if TYPE_CHECKING:
    from runtime.events.catalog import CatalogEntry
    from runtime.events.compatibility import Finding
    from runtime.events.shapes import EventShapes


def check(
    against: Annotated[
        Path,
        typer.Option(
            "--against",
            parser=opening.named_path,
            metavar="FILE",
            help="The other release's events: docs/events-release-N.json.",
        ),
    ],
    everything: Annotated[
        bool, typer.Option("--all", help="Also list the events that did not change.")
    ] = False,
    json: opening.Json = False,
) -> None:
    """Compare this release's events with those of an earlier one: per wire name BACKWARD (this
    release reads the other's events), FORWARD (the other reads this one's), FULL or NONE. Needs no
    database.

    Exit code 1 if an event of the earlier release could not be read: its shape changed and is not
    at least BACKWARD, or its name is gone and no upcaster leads to an event.

    [bold]Examples[/bold]
      ludoteca events check --against docs/events-release-1.json
      ludoteca events check --against docs/events-release-1.json --json | jq '.events[].changes'
    """
    import commands.aggregates  # noqa: F401 - brings every event
    from domain.events import EVENTS, UPCASTERS
    from eventstore.database.release import RELEASE
    from runtime.events.compatibility import check_release

    old = _read(against)
    found = check_release(old, EVENTS, UPCASTERS)
    shown = [each for each in found if everything or each.status != "unchanged"]
    broken = [each for each in found if not each.holds]
    if json:
        console.print_json(
            {
                "against": old.release,
                "release": RELEASE,
                "holds": not broken,
                "events": [_as_json(each) for each in shown],
            }
        )
    else:
        rows = [
            (each.event, each.status, each.level, "; ".join(each.changes), "; ".join(each.backward))
            for each in shown
        ]
        headings = ("event", "is", "compatible", "what changed", "why old events cannot be read")
        console.table(headings, rows, empty="nothing changed")
    console.note(
        f"release {RELEASE} against release {old.release}: {len(found)} wire names,"
        f" {len(broken)} cannot be read"
    )
    if broken:
        raise typer.Exit(Code.DIFFERS)


def _read(path: Path) -> "EventShapes":
    from kit.json_errors import JSON_ERRORS
    from runtime.events.shapes import decode

    with opening.reading(path):
        content = path.read_bytes()
    try:
        return decode(content)
    except JSON_ERRORS as error:
        raise Failure(
            f"{path} does not hold the events of a release: {error}", Code.USAGE
        ) from None


def _as_json(finding: "Finding") -> dict[str, object]:
    import msgspec

    return {**msgspec.structs.asdict(finding), "holds": finding.holds}


def catalog(
    name: Annotated[
        str,
        typer.Option("--name", help="Only events of this name or pattern, such as 'payment.*'."),
    ] = "*",
    json: opening.Json = False,
) -> None:
    """List every event of the program: its meaning, the kind of its stream, earlier names that are
    read as it, its fields (`?`: may be absent; `*`: personal, stored encrypted), the functions that
    decide it, the aggregate and the read models that fold it, and the reactors that it sets in
    motion. Needs no database.

    With --json also the fields' defaults.

    [bold]Examples[/bold]
      ludoteca events catalog --name 'payment.*'
      ludoteca events catalog --json | jq '.[] | select(.reactors | index("ledger")) | .event'
    """
    import fnmatch

    from runtime.events.catalog import catalog as every_event

    entries = every_event()
    found = [each for each in entries if fnmatch.fnmatchcase(each.event, name)]
    if not found:
        raise unknown("event", name, [each.event for each in entries])
    if json:
        console.print_json(found)
        return
    console.say("\n\n".join(map(_for_people, found)))


def _for_people(entry: "CatalogEntry") -> str:
    from runtime.events.compatibility import described

    fields = [
        f"{name}{'?' * field.optional}{'*' * field.personal}: {described(field.shape)}"
        for name, field in entry.fields.items()
    ]
    parts = {
        "kind": [entry.kind],
        "earlier": entry.earlier,
        "fields": fields,
        "decided by": entry.decided_by,
        "folded by": entry.folded_by,
        "reactors": entry.reactors,
    }
    lines = [f"  {what:10}  {', '.join(values)}" for what, values in parts.items() if values]
    return "\n".join([entry.event, f"  {entry.meaning}", *lines])
