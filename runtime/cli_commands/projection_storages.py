"""The rarely used commands of `ludoteca projections`: drop and prepare storages, and bring
consumers back to the log."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli_commands import acting, opening
from runtime.cli_commands.failures import Failure, unknown
from runtime.cli_commands.opening import Json
from runtime.output import console
from runtime.output.console import Code

if TYPE_CHECKING:
    import psycopg

    from eventstore.consumers.checkpoints import Subscription
    from projections.engine.runner import Registered
    from runtime.settings import Settings

Names = Annotated[
    list[str] | None, typer.Argument(help="Names of projections, as `list` shows them.")
]


def drop(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help=(
                "A projection, a version (`orders.1`) or a storage's feed (`orders.2.r1`), as"
                " `list` names it."
            )
        ),
    ] = None,
    unused: Annotated[
        bool,
        typer.Option(
            "--unused",
            help=(
                "Drop all that are not used: older versions, leftovers of rebuilds, and those of a"
                " lost history."
            ),
        ),
    ] = False,
    reason: acting.Reason = None,
    json: Json = False,
) -> None:
    """Drop storages that nobody reads: those of older versions or former projections, leftovers of
    rebuilds, standbys, and search indexes that remained in Elasticsearch when the database went
    back to an earlier moment.

    What queries read is never dropped, nor what a projector of another release keeps up to date. A
    storage that is being read at the moment (by a backup or a long query) is no longer updated, and
    the next `drop` or rebuild drops it; the exit code is then 1.

    [bold]Examples[/bold]
      ludoteca projections drop --unused
      ludoteca projections drop orders.1
      ludoteca projections drop orders.2.r1 --json
    """
    from projections.engine import dropping
    from projections.engine.folding import StoreFailed

    settings, away = opening.quiet_settings(), None
    if bool(names) == unused:
        raise Failure("name what to drop, or say --unused", Code.USAGE)
    why, target = acting.reason_for(reason), ", ".join(names or ()) or "unused"
    known = known_projections(settings)
    done: list[dropping.Dropped] = []
    with opening.connection(settings) as conn:
        chosen = [_named(conn, name) for name in names or ()]
        with acting.acting(settings, "projection.drop", target=target, reason=why) as act:
            for rows in [dropping.unused(conn, known)] if unused else chosen:
                try:
                    done += dropping.drop_all(conn, known, rows)
                except dropping.InUse as error:
                    if not unused:
                        raise Failure(str(error)) from error
                except dropping.Busy as error:
                    raise Failure(str(error)) from error
            if unused:
                try:
                    done += dropping.drop_left_behind(conn, known)
                except dropping.Busy as error:
                    raise Failure(str(error)) from error
                except StoreFailed as error:  # still report what was dropped before the error
                    away, act.error = error, str(error)
            act.affected = sum(each.dropped for each in done)
    with console.reporting():
        if json:
            console.print_json({"dropped": done})
        else:
            rows_of_table = [
                (d.feed, d.storage, console.verdict(d.dropped, no="NO, somebody reads it"))
                for d in done
            ]
            console.table(("feed", "storage", "dropped"), rows_of_table, empty="nothing to drop")
    if away is not None:
        raise away
    if not all(d.dropped for d in done):
        raise typer.Exit(Code.DIFFERS)


def prepare(json: Json = False) -> None:
    """Build this release's new versions of read models while the older release is still running.
    Run it with the new release, before starting that.

    The older release keeps its own versions and tables. The database's schema becomes this
    release's, however, so that an older process does not start again. The prepared read models wait
    for the new release: its projector completes them, and from then on queries read them.

    [bold]Example[/bold]
      ludoteca projections prepare && systemctl restart ludoteca
    """
    from runtime.database.instance import running_database_url
    from runtime.release.migrate import migrate_beside
    from runtime.release.preparing import prepare as build

    settings = opening.quiet_settings()
    url = running_database_url(settings)
    migrate_beside(url)
    with console.progress() as progress:
        done = build(url, list(known_projections(settings).values()), partial(progress, "prepare"))
    with console.reporting():
        if json:
            console.print_json({"prepared": done})
        else:
            console.table(
                ("projection", "version", "position", "head"),
                [(p.projection, p.version, p.position, p.head) for p in done],
                empty="nothing to prepare: the read models of this release are there",
            )


def recover(
    names: Names = None,
    every: Annotated[bool, typer.Option("--all", help="Recover all that are astray.")] = False,
    position: Annotated[
        int | None,
        typer.Option(
            "--from",
            min=0,
            help="Continue after this position, instead of at the place of the trail.",
            metavar="N",
        ),
    ] = None,
    reason: acting.Reason = None,
) -> None:
    """Let reactors and the relay continue that followed another history of the log (`list` shows
    them as astray). This happens after only the log was restored to an earlier moment.

    Each goes back to the last place of its trail that the log still has. It misses nothing, and
    repeats at most some minutes of work, which is recognised (docs/operations.md). Read models need
    no such command: the projector rebuilds them.

    [bold]Examples[/bold]
      ludoteca projections recover --all
      ludoteca projections recover relay --from 120000
    """
    from eventstore.consumers import checkpoints

    if bool(names) == every:
        raise Failure("name some consumers, or say --all", Code.USAGE)
    settings, why = opening.quiet_settings(), acting.reason_for(reason)
    with console.reporting(), opening.connection(settings) as conn:
        consumers = {
            row.projection: row for row in checkpoints.subscriptions(conn) if not row.storage
        }
        for name in names or ():
            if name not in consumers:
                raise unknown("reactor or relay that has run", name, consumers)
        if position is not None and position > (head := checkpoints.head(conn)):
            raise Failure(f"--from {position}: the log ends at {head}", Code.USAGE)
        chosen = [consumers[name] for name in names or consumers if consumers[name].astray]
        if chosen:
            _recover(settings, conn, chosen, position, why)
        for name in [name for name in names or () if not consumers[name].astray]:
            console.say(f"{name} is not astray, and goes on where it was")
        if every and not chosen:
            console.say("nothing is astray")


def _recover(
    settings: "Settings",
    conn: "psycopg.Connection",
    chosen: "Sequence[Subscription]",
    position: int | None,
    reason: str | None,
) -> None:
    from eventstore.consumers import checkpoints, histories

    target = ", ".join(row.projection for row in chosen)
    with acting.acting(settings, "projection.recover", target=target, reason=reason) as act:
        for row in chosen:
            try:
                at = histories.last_common(conn, row.name) if position is None else position
            except histories.NoTrail:
                raise Failure(
                    f"{row.projection} left no trail in this history: say --from, the position up"
                    " to which all that it did is in the log (0: it goes through all of it again)"
                ) from None
            histories.rewind(conn, row.name, at)
            console.say(f"{row.projection} goes on behind position {at}")
            act.details[row.projection] = str(at)
            act.affected = len(act.details)
        checkpoints.wake(conn)


def known_projections(settings: "Settings") -> "dict[str, Registered]":
    """This release's read models, by name."""
    from runtime.wiring.search import all_models

    return {registered.projection.name: registered for registered in all_models(settings)}


def _named(conn: "psycopg.Connection", name: str) -> "list[Subscription]":
    """The subscriptions that a name means. Raises Failure if there are none."""
    from eventstore.consumers import checkpoints
    from projections.engine import dropping

    if rows := dropping.matching(conn, name):
        return rows
    every = [row for row in checkpoints.subscriptions(conn) if row.storage]
    raise unknown(
        "read model that has run",
        name,
        {row.projection for row in every} | {row.name for row in every},
    )
