"""Of `ludoteca projections`: what is seldom done. Storages dropped or prepared, consumers brought
back to the log."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from runtime import console
from runtime.cli_commands import opening
from runtime.cli_commands.failures import Failure, unknown
from runtime.cli_commands.opening import Json
from runtime.console import Code

if TYPE_CHECKING:
    import psycopg

    from eventstore.consumers.checkpoints import Subscription
    from projections.engine.runner import Registered
    from runtime.settings import Settings

Names = Annotated[list[str] | None, typer.Argument(help="Projections, as `list` names them.")]


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
                "All that is only kept: of older versions, left by rebuilds that died, or of a lost"
                " history."
            ),
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Drop storages that nobody reads: of older versions, of former projections, left by rebuilds,
    or on standby; and search indexes that were left in Elasticsearch when the database went back to
    an earlier moment.

    What queries read is never dropped, nor what a projector of another release feeds. A storage
    that somebody reads at this moment (a backup, a long query) is fed no longer, and dropped by the
    next `drop` or rebuild: exit code 1.

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
    known = known_projections(settings)
    done: list[dropping.Dropped] = []
    with opening.connection(settings) as conn:
        for rows in (
            [dropping.unused(conn, known)]
            if unused
            else [_named(conn, name) for name in names or ()]
        ):
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
            except StoreFailed as error:  # what was dropped before is to be told all the same
                away = error
    with console.telling_what_was_done():
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
    """Build the read models of this release that have another version than those of the release
    that still runs.

    Run it with the new release before you start it. The older release goes on, with its own
    versions: of its tables nothing is changed, but the database's schema becomes this release's, so
    that an older process does not start again. What is prepared waits for the new release: its
    projector does the last steps, and from then on queries read it.

    [bold]Example[/bold]
      ludoteca projections prepare && systemctl restart ludoteca
    """
    from runtime.instance import running_database_url
    from runtime.migrate import migrate_beside
    from runtime.preparing import prepare as build

    settings = opening.quiet_settings()
    url = running_database_url(settings)
    migrate_beside(url)
    with console.progress() as progress:
        done = build(url, list(known_projections(settings).values()), partial(progress, "prepare"))
    with console.telling_what_was_done():
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
    every: Annotated[bool, typer.Option("--all", help="All that are astray.")] = False,
    position: Annotated[
        int | None,
        typer.Option(
            "--from",
            min=0,
            help="Go on behind this position, instead of where the trail says.",
            metavar="N",
        ),
    ] = None,
) -> None:
    """Have reactors and the relay go on that followed another history of the log, as `list` shows:
    they are astray.

    That is so after the log alone was restored to an earlier moment. Each goes back to the last
    place of its trail that the log still has: it misses nothing, and repeats at most some minutes,
    which is recognised (docs/operations.md). Read models need no such command: the projector folds
    them anew.

    [bold]Examples[/bold]
      ludoteca projections recover --all
      ludoteca projections recover relay --from 120000
    """
    from eventstore.consumers import checkpoints, histories

    if bool(names) == every:
        raise Failure("name some consumers, or say --all", Code.USAGE)
    settings = opening.quiet_settings()
    with console.telling_what_was_done(), opening.connection(settings) as conn:
        acting = {row.projection: row for row in checkpoints.subscriptions(conn) if not row.storage}
        for name in names or ():
            if name not in acting:
                raise unknown("reactor or relay that has run", name, acting)
        if position is not None and position > (head := checkpoints.head(conn)):
            raise Failure(f"--from {position}: the log ends at {head}", Code.USAGE)
        chosen = [acting[name] for name in names or acting if acting[name].astray]
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
        checkpoints.wake(conn)
        for name in [name for name in names or () if not acting[name].astray]:
            console.say(f"{name} is not astray, and goes on where it was")
        if every and not chosen:
            console.say("nothing is astray")


def known_projections(settings: "Settings") -> "dict[str, Registered]":
    """The read models of this release, by their names."""
    from runtime.wiring.search import all_models

    return {registered.projection.name: registered for registered in all_models(settings)}


def _named(conn: "psycopg.Connection", name: str) -> "list[Subscription]":
    """The subscriptions that a name means. Raises Failure where there are none."""
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
