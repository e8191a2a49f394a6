"""`ludoteca payments`: compare the log with the payment provider."""

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli_commands import acting, opening
from runtime.cli_commands.opening import Json
from runtime.output import console
from runtime.output.console import Code

if TYPE_CHECKING:
    from commands.payment_reconciliation import Reconciliation

app = typer.Typer(no_args_is_help=True, help="Compare the log with the payment provider's books.")

Since = Annotated[
    datetime | None,
    typer.Option(
        help="Compare only intents and refunds created since then (UTC).",
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"],
    ),
]


@app.callback()
def group() -> None:
    """Makes `payments` a group, although it has only one command so far."""


@app.command()
def reconcile(since: Since = None, reason: acting.Reason = None, json: Json = False) -> None:
    """Compare the payment provider's intents and refunds with the log. Run it after the log was
    restored to an earlier moment.

    What the provider knows about payments of the log is applied, as if its webhooks had been sent
    again. Money that the log cannot account for is listed, mostly that of lost orders: refund it at
    the provider. With --since, a moment safely before the backup, it takes less time. It may be
    repeated. Exit code 1 if money is listed.

    [bold]Examples[/bold]
      ludoteca payments reconcile --since 2026-11-28
      ludoteca payments reconcile --json | jq .left
    """
    from datetime import UTC

    why = acting.reason_for(reason)
    done = asyncio.run(_reconcile(None if since is None else since.replace(tzinfo=UTC), why))
    with console.reporting():
        if json:
            console.print_json(done)
        else:
            for each in done.applied:
                console.note(f"applied to payment {each.payment_id}: {each.type} of {each.ref}")
            console.table(
                ("reference", "payment", "status", "amount", "refunded", "currency", "reason"),
                [
                    (
                        x.ref,
                        x.payment_id,
                        x.status,
                        x.amount_cents,
                        x.refunded_cents,
                        x.currency,
                        x.reason,
                    )
                    for x in done.left
                ],
                empty="the log accounts for all money that the provider has",
            )
    if done.left:
        raise typer.Exit(Code.DIFFERS)


async def _reconcile(since: datetime | None, reason: str | None) -> "Reconciliation":
    from commands import payment_reconciliation
    from runtime.database.instance import noted_port

    settings = opening.quiet_settings()
    if not settings.provider_url and not settings.provider_port:
        settings = settings.model_copy(update={"provider_port": noted_port(settings, "provider")})
    async with (
        opening.core(settings) as core,
        acting.recorded(core, "payments.reconcile", reason=reason) as act,
    ):
        done = await payment_reconciliation.reconcile(
            core.handler, core.commands.payments, core.adapters.payment_provider, since
        )
        act.affected = len(done.applied)
        act.details = {"left": str(len(done.left))}
        return done
