"""`ludoteca audit replay`: the read models as they were at a past moment, to be queried and
served."""

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli_commands import acting, moments, opening
from runtime.cli_commands.failures import Failure
from runtime.cli_commands.opening import Json
from runtime.output import console
from runtime.output.console import Code

if TYPE_CHECKING:
    from projections.engine.past import Moment
    from runtime.settings import Settings

PORT_DISTANCE = 10
"""How far the port of `--serve` is from the API's, unless it is named."""


def replay(
    until: Annotated[
        str | None,
        typer.Option(
            metavar="POSITION|TIME", help="The moment: a log position, or a time with its zone."
        ),
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Then answer queries of it, read-only, under /as-of/.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of --serve. Default: LUDOTECA_PORT + 10."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Build a schema that exists anew.")
    ] = False,
    list_: Annotated[
        bool, typer.Option("--list", help="List the schemas, also those that queries had built.")
    ] = False,
    drop: Annotated[
        str | None,
        typer.Option(metavar="POSITION", help="Drop the schema of a position (or its name)."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, max=64, help="How many processes fold. Default: as many as cores, at most 4."
        ),
    ] = None,
    reason: acting.ReasonToRecord = None,
    json: Json = False,
) -> None:
    """Build all read models, and the search documents, as they were at a past moment, into a schema
    of their own (`ludoteca_at_POSITION`). The shop stays open.

    The tables have the names that they have in the schema `read`, and the hashes are those of a
    rebuild that stopped there. What was interrupted goes on where it stopped. With `--serve`, an
    AUDITOR or ADMIN reads them over HTTP: GET /as-of/api/v1/orders, and all other queries; their
    answers carry the position as As-Of-Position. The schema stays until it is dropped. Exit code 1
    if it exists already.

    [bold]Examples[/bold]
      ludoteca audit replay --until 2026-11-30T00:00:00Z
      ludoteca audit replay --until 81250 --serve --port 8010
      ludoteca audit replay --list
      ludoteca audit replay --drop 81250
    """
    if [until is not None, list_, drop is not None].count(True) != 1:
        raise Failure("say one of --until, --list and --drop", Code.USAGE)
    settings = opening.quiet_settings()
    if list_:
        _list(settings, json=json)
    elif drop is not None:
        _drop(settings, _position_in(drop), reason, json=json)
    else:
        assert until is not None
        position = asyncio.run(_position_at(settings, until))
        _build(settings, position, jobs, reason, replace=replace, may_exist=serve, json=json)
        if serve:
            _serve(settings, position, port)


async def _position_at(settings: "Settings", moment: str) -> int:
    async with opening.log(settings) as log:
        return await moments.position_at(log, moment)


def _position_in(text: str) -> int:
    from projections.engine.past import PREFIX

    number = text.removeprefix(PREFIX)
    if not number.isdecimal():
        raise Failure(f"{text} is neither a position nor the name of a schema", Code.USAGE)
    return int(number)


# -- building --------------------------------------------------------------------------------------


def _build(
    settings: "Settings",
    position: int,
    jobs: int | None,
    reason: str | None,
    *,
    replace: bool,
    may_exist: bool,
    json: bool,
) -> None:
    from eventstore.database.postgres import connect
    from projections.engine import past
    from projections.engine.parts import ProcessDied, usual_count
    from projections.registry import read_models
    from runtime.audit.past_building import build_missing

    url, models, started = opening.running_url(settings), read_models(), time.monotonic()
    try:
        with connect(url, "ludoteca replay") as conn, past.exclusively(conn, position):
            found = past.moment(conn, position)
            if found is not None and found.same_history:
                if replace:
                    past.drop_within(conn, position)
                elif found.kept and not past.missing(conn, models, position):
                    if may_exist:
                        return
                    raise _Refused(_exists(found))
            with (
                acting.noting(settings, "replay.make", target=str(position), reason=reason) as act,
                console.progress() as progress,
            ):
                build_missing(
                    url,
                    conn,
                    models,
                    position,
                    count=jobs or usual_count(),
                    kept=True,
                    progress=progress,
                )
                act.affected = len(models)
            built = past.moment(conn, position)
    except (past.NoRight, past.BuiltElsewhere, past.ReadNow, ProcessDied, _Refused) as error:
        if json:
            console.print_json({"schema": past.schema_at(position), "refused": str(error)})
            raise typer.Exit(Code.DIFFERS) from None
        raise Failure(str(error)) from error
    assert built is not None
    with console.reporting():
        _tell(built, time.monotonic() - started, json=json)


class _Refused(Exception):
    """The schema is not built; the message says why."""


def _exists(found: "Moment") -> str:
    return (
        f"{found.schema} exists, with {len(found.models)} read models, made at"
        f" {found.made_at:%Y-%m-%d %H:%M:%S %Z}: serve it with --serve, build it anew with"
        f" --replace, or drop it with --drop {found.position}; --list shows all"
    )


def _tell(built: "Moment", seconds: float, *, json: bool) -> None:
    if json:
        console.print_json(
            {
                "schema": built.schema,
                "position": built.position,
                "seconds": round(seconds, 3),
                "bytes": built.bytes,
                "read_models": built.models,
            }
        )
        return
    console.table(
        ("read model", "table", "rows", "hash"),
        [(each.model, each.storage, each.rows, each.hash) for each in built.models],
    )
    console.say(f"{built.schema} shows position {built.position}")


# -- what there is ---------------------------------------------------------------------------------


def _list(settings: "Settings", *, json: bool) -> None:
    from projections.engine import past
    from projections.registry import read_models
    from queries.audit.replays import state_of

    with opening.connection(settings) as conn:
        found = past.moments(conn)
    if json:
        console.print_json([_as_dict(each) for each in found])
        return
    every = {each.storage for each in read_models()}
    console.table(
        ("schema", "read models", "state", "made", "last used", "bytes"),
        [
            (
                each.schema,
                f"{len(every & _storages(each))} of {len(every)}",
                state_of(each),
                f"{each.made_at:%Y-%m-%d %H:%M:%S}",
                f"{each.used_at:%Y-%m-%d %H:%M:%S}",
                each.bytes,
            )
            for each in found
        ],
    )


def _storages(moment: "Moment") -> set[str]:
    return {each.storage for each in moment.models}


def _as_dict(moment: "Moment") -> dict[str, object]:
    import msgspec

    from queries.audit.replays import state_of

    fields = {"schema": moment.schema, "state": state_of(moment), **msgspec.structs.asdict(moment)}
    del fields["tables"]  # those that are complete are among the models
    return fields


def _drop(settings: "Settings", position: int, reason: str | None, *, json: bool) -> None:
    from projections.engine import past

    with opening.connection(settings) as conn:
        if position not in past.positions(conn):
            there: Sequence[str] = [past.schema_at(each) for each in past.positions(conn)]
            known = f"; there are {', '.join(there)}" if there else ""
            raise Failure(f"there is no schema {past.schema_at(position)}{known}")
        try:
            with acting.noting(settings, "replay.drop", target=str(position), reason=reason) as act:
                past.drop(conn, position)
                act.affected = 1
        except (past.BuiltElsewhere, past.ReadNow) as error:
            raise Failure(str(error)) from error
    with console.reporting():
        if json:
            console.print_json({"dropped": past.schema_at(position)})
        else:
            console.say(f"dropped {past.schema_at(position)}")


# -- serving ---------------------------------------------------------------------------------------


def _serve(settings: "Settings", position: int, port: int | None) -> None:
    from runtime.output.logs import configure
    from runtime.processes.running import run_until_stopped
    from runtime.processes.servers import serve_past
    from runtime.settings.values import beside, http_url

    chosen = settings.model_copy(update={"port": port or beside(settings.port, PORT_DISTANCE)})
    configure(chosen, process="as-of")
    address = http_url(chosen.host, chosen.port, tls=bool(chosen.tls_cert))
    console.note(f"{address}/as-of/ shows position {position}, until Ctrl-C")
    run_until_stopped(serve_past(chosen, position))
