"""`ludoteca receipts`: what the fiscal operator has issued."""

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli_commands import acting, opening
from runtime.cli_commands.opening import Json
from runtime.output import console

if TYPE_CHECKING:
    from commands.fiscal_reconciliation import MissedReceipt
    from commands.ports.queue import Job

app = typer.Typer(no_args_is_help=True, help="Compare the log with the fiscal operator's books.")

Since = Annotated[
    datetime | None,
    typer.Option(
        help=(
            "Compare only receipts issued since then (UTC), and request again those that orders"
            " paid since then lack."
        ),
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"],
    ),
]


@app.command()
def reconcile(since: Since = None, reason: acting.Reason = None, json: Json = False) -> None:
    """Record the receipts that the fiscal operator has issued and the log does not know. Run it
    after a restore.

    New receipts do not depend on it. It also finds receipts of sellers who no longer sell, and of
    lost orders. With --since, a moment safely before the backup, it also requests receipts again
    whose jobs the broker lost. It may be repeated.

    [bold]Examples[/bold]
      ludoteca receipts reconcile
      ludoteca receipts reconcile --since 2026-11-28 --json
    """
    from datetime import UTC

    why = acting.reason_for(reason)
    found, asked = asyncio.run(
        _reconcile(None if since is None else since.replace(tzinfo=UTC), why)
    )
    with console.reporting():
        if json:
            console.print_json({"found": found, "asked_anew": [job.id for job in asked]})
            return
        if asked:
            console.note(f"{len(asked)} receipts are asked for anew")
        console.table(
            ("seller", "year", "number", "order", "order is", "amount", "currency", "reference"),
            [
                (
                    each.receipt.seller_id,
                    str(each.receipt.year),
                    each.receipt.number,
                    each.receipt.order_id,
                    "known" if each.order_is_known else "lost",
                    each.receipt.amount_cents,
                    each.receipt.currency,
                    each.receipt.reference,
                )
                for each in found
            ],
            empty="the log has all that the operator has issued",
        )


async def _reconcile(
    since: datetime | None, reason: str | None
) -> "tuple[list[MissedReceipt], list[Job]]":
    from commands import fiscal_reconciliation
    from runtime.database.instance import noted_port
    from runtime.wiring.work import FISCAL, open_queues

    settings = opening.quiet_settings()
    if not settings.fiscal_url and not settings.fiscal_port:
        settings = settings.model_copy(update={"fiscal_port": noted_port(settings, "fiscal")})
    async with (
        opening.core(settings) as core,
        open_queues(core) as queues,
        acting.recorded(core, "receipts.reconcile", reason=reason) as act,
    ):
        found = await fiscal_reconciliation.reconcile(
            core.handler, core.adapters.fiscal_operator, since
        )
        asked = (
            []
            if since is None
            else await fiscal_reconciliation.queue_missing(
                core.handler, queues[FISCAL.queue], since
            )
        )
        act.affected = len(found)
        act.details = {"asked_anew": str(len(asked))}
        return found, asked
