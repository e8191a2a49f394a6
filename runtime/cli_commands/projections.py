"""`ludoteca projections`: list, rebuild, verify, roll back and pause the consumers of the log."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from runtime.cli_commands import acting, opening, projection_storages
from runtime.cli_commands.failures import Failure, unknown
from runtime.cli_commands.opening import Json
from runtime.cli_commands.projection_storages import Names, known_projections
from runtime.cli_commands.rebuilds import or_failure, rebuild_together
from runtime.output import console
from runtime.output.console import Code

if TYPE_CHECKING:
    from projections.engine.rebuild import Verified
    from projections.engine.runner import Registered
    from queries.operations.control import SubscriptionState
    from runtime.settings import Settings

T = TypeVar("T")

app = typer.Typer(
    no_args_is_help=True,
    help="List, rebuild and verify the read models, and manage the log's other consumers.",
)

Name = Annotated[str, typer.Argument(help="Name of a projection, as `list` shows it.")]


@app.command(name="list")
def list_(json: Json = False) -> None:
    """List the consumers of the log: their positions, how far behind they are, and how many streams
    they have in quarantine.

    Read models can be rebuilt and verified; reactors and the relay act on events and keep no rows.
    A standby is the storage before the last rebuild; it is kept up to date, so that `rollback` can
    return to it. A storage that is catching up is not read yet. One that is not updated (another
    version, or one being built) has no lag; `drop --unused` drops those that are not used. A
    storage that no consumer knows was left in Elasticsearch when the database went back to an
    earlier moment.

    [bold]Examples[/bold]
      ludoteca projections list
      ludoteca projections list --json | jq '.[] | select(.lag > 100) | .projection'
    """
    settings = opening.quiet_settings()
    known = known_projections(settings)
    subscriptions = asyncio.run(_subscriptions(settings))
    left = _left_behind(settings, known)
    if json:
        console.print_json(
            [
                *(
                    {**_as_dict(subscription), "state": _state(subscription, known)}
                    for subscription in subscriptions
                ),
                *left,
            ]
        )
        return
    console.table(
        ("projection", "state", "fed", "position", "behind", "quarantined", "storage", "feed"),
        [
            (
                f.projection,
                _state(f, known),
                _yes(f.fed),
                f.position,
                f.lag,
                f.parked,
                f.storage or None,
                f.feed,
            )
            for f in subscriptions
        ],
        empty="no consumer has run yet: start `ludoteca run`",
    )
    if left:
        console.note(
            "left by a lost history, and read by nobody:"
            f" {', '.join(each['storage'] for each in left)}; `ludoteca projections drop --unused`"
            " drops it"
        )
    missing = sorted(known.keys() - {subscription.projection for subscription in subscriptions})
    if missing:
        console.note(f"never ran: {', '.join(missing)}")


@app.command()
def rebuild(
    names: Names = None,
    every: Annotated[bool, typer.Option("--all", help="Rebuild all read models.")] = False,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Switch even if the live rows differ, because they are wrong."
        ),
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, max=64, help="How many processes fold. Default: as many as cores, at most 4."
        ),
    ] = None,
    reason: acting.Reason = None,
    json: Json = False,
) -> None:
    """Rebuild read models from the log beside the live ones, compare the rows, and switch queries
    over. The shop stays open.

    If the new rows differ from the live ones, nothing is switched and the exit code is 1; `verify`
    shows which rows differ. Once you know that the live rows are wrong, switch with `--replace`.
    The former storage is kept up to date, so that `rollback` can return to it at once.

    [bold]Examples[/bold]
      ludoteca projections rebuild orders
      ludoteca projections rebuild --all
    """
    from eventstore.database.postgres import connect
    from projections.engine import rebuild as rebuilding

    settings = opening.quiet_settings()
    if bool(names) == every:
        raise Failure("name the projections to rebuild, or say --all", Code.USAGE)
    chosen, count = _chosen(settings, names), jobs or rebuilding.usual_count()
    why = acting.reason_for(reason)
    connecting = partial(connect, opening.running_url(settings), "ludoteca rebuild")
    together = [each for each in chosen if each.store.transactional]
    if count < 2 or len(together) <= count:
        together = []
    target = "all" if every else ", ".join(each.projection.name for each in chosen)
    with acting.acting(settings, "projection.rebuild", target=target, reason=why) as act:
        done, failures = rebuild_together(together, count, connecting, replace=replace)
        if alone := [each for each in chosen if each not in together]:
            processes = rebuilding.Processes(count, connecting)
            work = partial(rebuilding.rebuild, replace=replace, processes=processes)
            more, more_failures = _each(settings, alone, "rebuild", work)
            done += more
            failures += more_failures
        act.affected = sum(each.rows for each in done)
        act.details = {each.projection: each.storage for each in done}
        act.error = "; ".join(f"{name}: {failure.message}" for name, failure in failures) or None
    with console.reporting():
        if json:
            failed = [{"projection": name, "error": failure.message} for name, failure in failures]
            console.print_json({"rebuilt": done, "failed": failed})
        elif done:
            console.table(
                ("projection", "storage", "position", "rows", "hash"),
                [(r.projection, r.storage, r.position, r.rows, r.hash) for r in done],
            )
    _end(failures)


@app.command()
def verify(names: Names = None, json: Json = False) -> None:
    """Replay the log and compare the result with the live rows, for the named read models or for
    all. Changes nothing.

    Exit code 1 if any row differs, with the keys of some of them. Streams in quarantine are left
    out on both sides, and counted.

    [bold]Examples[/bold]
      ludoteca projections verify
      ludoteca projections verify orders payments --json
    """
    from projections.engine import rebuild as rebuilding

    settings = opening.quiet_settings()
    done, failures = _each(settings, _chosen(settings, names), "verify", rebuilding.verify)
    if json:
        failed = [{"projection": name, "error": failure.message} for name, failure in failures]
        console.print_json({"verified": [_verified(v) for v in done], "failed": failed})
    else:
        _print_verified(done)
    _end(failures)
    if not all(v.difference.equal for v in done):
        raise typer.Exit(Code.DIFFERS)


@app.command()
def rollback(name: Name, reason: acting.Reason = None) -> None:
    """Return to the storage before the last rebuild. It was kept up to date, so nothing is missing.
    Exit code 1 if there is none.

    [bold]Example[/bold]
      ludoteca projections rollback orders
    """
    from projections.engine import rebuild as rebuilding

    settings = opening.quiet_settings()
    registered, why = _chosen(settings, [name])[0], acting.reason_for(reason)
    with (
        acting.acting(settings, "projection.rollback", target=name, reason=why) as act,
        opening.connection(settings) as conn,
    ):
        storage = or_failure(lambda: rebuilding.rollback(conn, registered))
        act.affected, act.details = 1, {"storage": storage}
    with console.reporting():
        console.say(f"queries of {name} read {storage} again")


app.command()(projection_storages.drop)
app.command()(projection_storages.prepare)


@app.command()
def pause(name: Name, reason: acting.Reason = None) -> None:
    """Pause a projection, a reactor or the relay. It catches up with the log when it is resumed.

    [bold]Example[/bold]
      ludoteca projections pause orders
    """
    _set_paused(name, "projection.pause", reason)


@app.command()
def resume(name: Name, reason: acting.Reason = None) -> None:
    """Resume a paused projection, reactor or relay where it stopped.

    [bold]Example[/bold]
      ludoteca projections resume orders
    """
    _set_paused(name, "projection.resume", reason)


app.command()(projection_storages.recover)


# -- which projections -----------------------------------------------------------------------------


def _chosen(settings: "Settings", names: Sequence[str] | None) -> "list[Registered]":
    """The projections with these names, or all. Raises Failure for an unknown name."""
    known = known_projections(settings)
    for name in names or ():
        if name not in known:
            raise unknown("projection", name, known)
    return [known[name] for name in dict.fromkeys(names or known)]


async def _subscriptions(settings: "Settings") -> "list[SubscriptionState]":
    from queries.operations.control import Operations

    async with opening.pool(settings) as pool:
        return await Operations(
            pool,
            {name: each.projection.version for name, each in known_projections(settings).items()},
        ).subscriptions()


def _left_behind(settings: "Settings", known: "dict[str, Registered]") -> list[dict[str, str]]:
    """The storages that no subscription names; none if their server does not answer."""
    from projections.engine import dropping
    from projections.engine.folding import StoreFailed

    try:
        with opening.connection(settings) as conn:
            found = dropping.left_behind(conn, known)
    except StoreFailed as error:
        console.note(str(error))
        return []
    return [
        {"projection": name, "storage": storage, "state": "left behind"} for name, storage in found
    ]


def _set_paused(
    name: str, act: 'Literal["projection.pause", "projection.resume"]', reason: str | None
) -> None:
    settings, why, paused = opening.quiet_settings(), acting.reason_for(reason), "pause" in act

    async def tell() -> None:
        from queries.operations.control import Operations

        async with opening.core(settings) as core:
            operations = Operations(core.log.pool)
            known = {subscription.projection for subscription in await operations.subscriptions()}
            if name not in known:
                raise unknown("projection that has run", name, known)
            async with acting.recorded(core, act, target=name, reason=why) as recorded:
                await (operations.pause(name) if paused else operations.resume(name))
                recorded.affected = 1

    asyncio.run(tell())
    with console.reporting():
        console.say(f"{name} {'is paused' if paused else 'goes on'}")


def _state(subscription: "SubscriptionState", known: "dict[str, Registered]") -> str:
    from queries.operations.consumers import state_of

    versions = {name: each.projection.version for name, each in known.items()}
    return state_of(subscription, versions)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _as_dict(subscription: "SubscriptionState") -> dict[str, object]:
    import msgspec

    return msgspec.structs.asdict(subscription)


# -- helpers ---------------------------------------------------------------------------------------


def _each(
    settings: "Settings", chosen: "Iterable[Registered]", doing: str, work: Callable[..., T]
) -> tuple[list[T], list[tuple[str, Failure]]]:
    """Rebuild or verify one projection after another; a failure does not stop the others."""
    from eventstore.consumers.reader import collector_paused
    from runtime.wiring.codec import codec

    events = codec()
    done: list[T] = []
    failures: list[tuple[str, Failure]] = []
    # a replay makes no cycles of garbage, and looking for them took a fifth of its time
    with (
        opening.connection(settings) as conn,
        console.progress() as progress,
        collector_paused(),
    ):
        for registered in chosen:
            name = registered.projection.name
            try:
                done.append(
                    or_failure(
                        partial(
                            work, conn, events, registered, partial(progress, f"{doing} {name}")
                        )
                    )
                )
            except Failure as failure:
                failures.append((name, failure))
    return done, failures


def _end(failures: Sequence[tuple[str, Failure]]) -> None:
    for _, failure in failures:
        console.note(failure.message)
    if failures:
        raise typer.Exit(min(failure.code for _, failure in failures))


def _verified(verified: "Verified") -> dict[str, object]:
    difference = verified.difference
    return {
        "projection": verified.projection,
        "position": verified.position,
        "equal": difference.equal,
        "rows": difference.stored,
        "hash": difference.stored_hash,
        "replayed_rows": difference.replayed,
        "replayed_hash": difference.replayed_hash,
        "differing_keys": difference.keys,
        "quarantined": verified.quarantined,
    }


def _print_verified(done: "Sequence[Verified]") -> None:
    if not done:
        return
    console.table(
        ("projection", "position", "rows", "hash", "equal", "quarantined"),
        [
            (
                v.projection,
                v.position,
                v.difference.stored,
                v.difference.stored_hash,
                console.verdict(v.difference.equal),
                v.quarantined,
            )
            for v in done
        ],
    )
    for v in done:
        if not v.difference.equal:
            keys = (
                "\n".join(f"  {key}" for key in v.difference.keys)
                or "  (keys unknown: only the hashes tell)"
            )
            console.say(
                f"{v.projection} differs: {v.difference.stored} rows stored,"
                f" {v.difference.replayed} by the log. Some of the keys that differ:\n{keys}"
            )
    if any(v.quarantined for v in done):
        console.note("streams wait in quarantine: see `ludoteca quarantine list`")
