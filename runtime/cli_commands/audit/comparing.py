"""`ludoteca audit diff`: what changed between two moments, and by which events."""

import asyncio
import json as standard_json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from runtime.cli_commands import opening
from runtime.cli_commands.failures import Failure
from runtime.cli_commands.moments import position_at
from runtime.cli_commands.opening import Json
from runtime.output import console
from runtime.output.console import Code

if TYPE_CHECKING:
    from queries.audit.differences import About, Difference, Kind

Id = Annotated[UUID | None, typer.Option(metavar="ID")]
Moment = Annotated[
    str, typer.Argument(metavar="POSITION|TIME", help="A log position, or a time with its zone.")
]

_LONG = 60
"""Longer values are cut in the table."""


def diff(
    t1: Moment,
    t2: Moment,
    order: Id = None,
    wallet: Id = None,
    game: Id = None,
    user: Id = None,
    json: Json = False,
) -> None:
    """Show what changed after one moment, up to another: which fields of which rows of the read
    models, from what to what, and by which events.

    By default of the whole shop; or of an order with its payment, shipments and receipts, of a
    wallet, of a game with its stock, or of an account with its library, wallets, orders, carts,
    transactions and notifications. Only the streams that had events in between are folded, from
    their start; for ledger accounts, the whole log.

    [bold]Examples[/bold]
      ludoteca audit diff 81250 81300
      ludoteca audit diff 2026-11-29T00:00:00Z 2026-11-30T00:00:00Z --order 0c2f3a52-…
    """
    found = asyncio.run(_difference(t1, t2, _about(order, wallet, game, user)))
    if json:
        console.print_json(found)
        return
    console.table(
        ("row", "", "field", "before", "after", "by position"), _cells(found), empty="no difference"
    )
    if found.events:
        console.say("")
        console.table(
            ("position", "event", "at", "by", "request"),
            [
                (
                    each.position,
                    each.name,
                    f"{each.occurred_at:%Y-%m-%d %H:%M:%S}Z",
                    each.actor,
                    each.correlation_id,
                )
                for each in found.events
            ],
        )
    for stop in found.stopped_by:
        console.note(
            f"position {stop.position}: {stop.name} cannot be applied, and what follows in stream"
            f" {stop.stream_id} is not told: {stop.error}"
        )


def _about(
    order: UUID | None, wallet: UUID | None, game: UUID | None, user: UUID | None
) -> "About | None":
    from queries.audit.differences import About

    named: dict[Kind, UUID | None] = {"order": order, "wallet": wallet, "game": game, "user": user}
    given = [About(kind, id_) for kind, id_ in named.items() if id_ is not None]
    if len(given) > 1:
        raise Failure("say at most one of --order, --wallet, --game and --user", Code.USAGE)
    return given[0] if given else None


async def _difference(t1: str, t2: str, about: "About | None") -> "Difference":
    from queries.audit.differences import differences
    from queries.engine.read_models import ReadModels

    async with opening.log(opening.quiet_settings()) as log:
        first, last = await position_at(log, t1), await position_at(log, t2)
        return await differences(log, ReadModels(log.pool), first, last, about)


def _cells(found: "Difference") -> Iterator[tuple[object, ...]]:
    for row in found.rows:
        name, what = f"{row.model} {row.key}", str(row.what)
        for field in row.fields:
            by = ", ".join(map(str, field.positions))
            yield name, what, field.field, _text(field.before), _text(field.after), by
            name = what = ""  # said once


def _text(value: object) -> str | None:
    if value is None:
        return None
    text = standard_json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"
