"""`ludoteca audit self`: look whether what must always hold does."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli_commands import acting, opening
from runtime.cli_commands.failures import unknown
from runtime.cli_commands.opening import Json
from runtime.output import console
from runtime.output.console import Code

if TYPE_CHECKING:
    from runtime.self_audit.auditor import Outcome, Report
    from runtime.settings import Settings


def audit_self(
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="INVARIANT", help="Look at this one; may be repeated."),
    ] = None,
    reason: acting.ReasonToRecord = None,
    json: Json = False,
) -> None:
    """Look whether everything that must always hold does: money adds up, nothing paid is missing,
    stock adds up, read models are what the log says, nothing due is undone.

    The worker does the same once a day, and looks at samples all the time. What does not hold is a
    finding, recorded as an event until it is gone. docs/self-audit.md explains each invariant, and
    what to do. Exit code 1 if any does not hold, or could not be looked at.

    [bold]Examples[/bold]
      ludoteca audit self
      ludoteca audit self --only wallet_equals_account --json | jq '.invariants[].violations'
    """
    settings = opening.quiet_settings()
    target = ", ".join(only or ()) or None
    with acting.noting(settings, "log.audit", target=target, reason=reason) as act:
        report = asyncio.run(_look(settings, only or []))
        act.affected = sum(each.checked for each in report.outcomes)
        violations = sum(len(each.violations) for each in report.outcomes)
        act.details = {"violations": str(violations), "position": str(report.head)}
    with console.reporting():
        if json:
            console.print_json(_fields(report))
        else:
            _tell(report)
    if any(each.violations or each.failure for each in report.outcomes):
        raise typer.Exit(Code.DIFFERS)


async def _look(settings: "Settings", only: list[str]) -> "Report":
    from eventstore.consumers.leadership import connected
    from queries.operations.self_audit import WHOLE
    from runtime.self_audit.auditor import Auditor
    from runtime.self_audit.recording import record
    from runtime.wiring.search import all_models

    async with opening.core(settings) as core, connected(core.url, "ludoteca audit") as conn:
        models = await asyncio.to_thread(all_models, settings)
        grace = timedelta(seconds=settings.self_audit_grace_seconds)
        auditor = Auditor(conn, core.log.codec, models, core.clock, grace)
        names = [each.name for each in auditor.invariants]
        for name in only:
            if name not in names:
                raise unknown("invariant", name, names)
        with console.progress() as progress:
            report = await asyncio.to_thread(auditor.whole, progress, only)
        await record(core.log.pool, core.commands.findings, report, WHOLE, complete=not only)
        return report


def _fields(report: "Report") -> dict[str, object]:
    return {
        "holds": not any(each.violations or each.failure for each in report.outcomes),
        "position": report.head,
        "invariants": [
            {
                "invariant": each.invariant,
                "meaning": each.meaning,
                "checked": each.checked,
                "violations": [
                    {"subject": one.subject, "detail": one.detail} for one in each.violations
                ],
                "unsettled": each.unsettled,
                "resolved": len(each.gone),
                "seconds": round(each.seconds, 3),
                "failure": each.failure,
            }
            for each in report.outcomes
        ],
    }


def _tell(report: "Report") -> None:
    console.table(
        ("invariant", "checked", "holds", "violations", "resolved", "seconds"),
        [
            (
                each.invariant,
                each.checked,
                _verdict(each),
                len(each.violations),
                len(each.gone),
                f"{each.seconds:.1f}",
            )
            for each in report.outcomes
        ],
    )
    for each in report.outcomes:
        for one in each.violations:
            console.say(f"{each.invariant}: {one.subject}: {one.detail}")
        if each.failure:
            console.note(f"{each.invariant} could not be looked at: {each.failure}")
        if each.unsettled:
            console.note(
                f"{each.invariant}: {each.unsettled} could not be judged, as what follows from the"
                " latest events is not done yet: are worker and projector running?"
            )


def _verdict(outcome: "Outcome") -> object:
    if outcome.failure:
        return "?"
    return console.verdict(not outcome.violations)
