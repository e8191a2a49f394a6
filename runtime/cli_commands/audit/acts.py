"""`ludoteca audit acts`: what operators did."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli_commands import opening
from runtime.cli_commands.opening import Json
from runtime.output import console

if TYPE_CHECKING:
    from queries.audit.acts import ActOfOperator

PAGE = 200

_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


def acts(
    act: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Only these, such as `projection.*`.")
    ] = None,
    actor: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Only by these, such as `operator:*`.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Only on this.")] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Only since then (UTC).", formats=_FORMATS)
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(help="Only before then (UTC).", formats=_FORMATS)
    ] = None,
    limit: Annotated[
        int, typer.Option("-n", "--limit", min=1, max=opening.MANY, help="How many at most.")
    ] = 50,
    json: Json = False,
) -> None:
    """List what operators did, the newest first: over HTTP, on the console and by commands like
    these. Who, what, why, and to how many things.

    One that is BEGUN is under way; of one that was INTERRUPTED nobody saw the end: it may be done,
    or not.

    [bold]Examples[/bold]
      ludoteca audit acts
      ludoteca audit acts --act 'projection.*' --since 2026-11-28 --json
    """
    found = asyncio.run(_acts(act, actor, target, _utc(since), _utc(until), limit))
    if json:
        console.print_json(found)
        return
    console.table(
        ("position", "at", "act", "target", "by", "status", "affected", "reason", "error"),
        [
            (
                each.position,
                f"{each.at:%Y-%m-%d %H:%M:%S}",
                each.act,
                each.target,
                each.actor,
                each.status,
                each.affected,
                each.reason,
                each.error,
            )
            for each in found
        ],
        empty="nothing was done",
    )


async def _acts(
    act: str | None,
    actor: str | None,
    target: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
) -> "list[ActOfOperator]":
    from queries.audit.acts import acts as query
    from queries.engine.read_models import ReadModels

    async with opening.log(opening.quiet_settings()) as log:
        models = ReadModels(log.pool)
        found: list[ActOfOperator] = []
        cursor: str | None = None
        while True:
            page = await query(
                models,
                act=act,
                actor=actor,
                target=target,
                since=since,
                until=until,
                limit=min(PAGE, limit - len(found)),
                cursor=cursor,
            )
            found += page.value.items
            cursor = page.value.next_cursor
            if cursor is None or len(found) >= limit:
                return found


def _utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC)
