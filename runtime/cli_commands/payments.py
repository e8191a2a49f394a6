"""`ludoteca payments`: what the payment provider knows."""

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from runtime import console
from runtime.cli_commands import opening
from runtime.cli_commands.opening import Json
from runtime.console import Code

if TYPE_CHECKING:
    from commands.payment_reconciliation import Reconciliation

app = typer.Typer(
    no_args_is_help=True, help="Card payments: compare the log with what the payment provider has."
)

Since = Annotated[
    datetime | None,
    typer.Option(
        help="Look at intents and refunds made since then (UTC) only.",
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"],
    ),
]


@app.callback()
def group() -> None:
    """A group, although it has one command so far."""


@app.command()
def reconcile(since: Since = None, json: Json = False) -> None:
    """Compare the payment provider's intents and refunds with the log, after the log went back to
    an earlier moment.

    What the provider says of payments that the log has is applied, as if it had sent its notices
    again. Money that the log cannot account for is listed: that of lost orders above all. Give it
    back at the provider. With --since, a moment safely before the backup, it takes less long. It
    may be repeated. Exit code 1 when money is listed.

    [bold]Examples[/bold]
      ludoteca payments reconcile --since 2026-11-28
      ludoteca payments reconcile --json | jq .left
    """
    from datetime import UTC

    done = asyncio.run(_reconcile(None if since is None else since.replace(tzinfo=UTC)))
    with console.telling_what_was_done():
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


async def _reconcile(since: datetime | None) -> "Reconciliation":
    from commands import payment_reconciliation
    from runtime.instance import noted_port

    settings = opening.quiet_settings()
    if not settings.provider_url and not settings.provider_port:
        settings = settings.model_copy(update={"provider_port": noted_port(settings, "provider")})
    async with opening.core(settings) as core:
        return await payment_reconciliation.reconcile(
            core.handler, core.commands.payments, core.adapters.payment_provider, since
        )
