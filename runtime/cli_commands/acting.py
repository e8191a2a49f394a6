"""How commands that change something are recorded: who acts, why, and what came of it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from kit.wording import described, kept
from runtime.cli_commands import opening
from runtime.cli_commands.failures import Failure
from runtime.output import console
from runtime.output.console import Code

if TYPE_CHECKING:
    from commands.acts import ActUnderWay
    from commands.caller import Caller
    from domain.acts import ActName
    from runtime.settings import Settings
    from runtime.wiring.core import Core

Reason = Annotated[
    str | None,
    typer.Option(
        "--reason",
        metavar="TEXT",
        help="Why: recorded in the log with the act. A terminal asks for it where it is missing.",
    ),
]


def operator() -> "Caller":
    """The operator who runs this command: the operating system's user on this machine. They may do
    everything, as they have access to the database."""
    import pwd
    import socket

    from commands.caller import Caller

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without an entry
        name = str(os.getuid())
    return Caller(kept(f"operator:{name}@{socket.gethostname()}"), account_type="ADMIN")


ReasonToRecord = Annotated[
    str | None,
    typer.Option(
        "--reason", metavar="TEXT", help="Record in the log that you did this, why, and the result."
    ),
]
"""For commands that change nothing: they are recorded only if a reason is given."""


def reason_for(given: str | None) -> str | None:
    """The reason that was given, or that a person at the terminal types; None without one. Raises
    Failure for one that cannot be recorded."""
    from domain.acts import check_reason
    from domain.errors import Invalid

    if given is None and sys.stdin.isatty() and sys.stderr.isatty():
        asked = "Why? (recorded in the log; empty: no reason)"
        given = typer.prompt(asked, default="", show_default=False, err=True).strip() or None
    if given is not None:
        try:
            check_reason(given)
        except Invalid as error:
            raise Failure(error.detail, Code.USAGE) from None
    return given


@asynccontextmanager
async def recorded(
    core: "Core",
    act: "ActName",
    *,
    target: str | None = None,
    reason: str | None = None,
    details: Mapping[str, str] | None = None,
) -> "AsyncIterator[ActUnderWay]":
    """Do an act in the body, between the records of its begin and its end (`commands.acts`)."""
    async with core.commands.acts.recorded(
        operator(), act, target=target, reason=reason, details=details
    ) as under_way:
        yield under_way


@contextmanager
def acting(
    settings: "Settings",
    act: "ActName",
    *,
    target: str | None = None,
    reason: str | None = None,
    must: bool = True,
) -> "Iterator[ActUnderWay]":
    """As `recorded`, for a body that is not asynchronous, or forks. The log is opened for each
    record, and closed again. Raises NotRunning, and as an append, before the body; unless it `must`
    be recorded: a backup is more urgent than its record."""
    from commands.acts import ActUnderWay, Asked
    from eventstore.database.under_way import held

    caller, asked = operator(), Asked(target)

    async def begin() -> "ActUnderWay":
        async with opening.core(settings) as core:
            (begun,) = await core.commands.acts.begin(caller, act, reason, asked)
            return begun

    async def end(error: str | None) -> None:
        async with opening.core(settings) as core:
            await core.commands.acts.end(caller, [begun], error)

    with ExitStack() as stack:
        try:
            stack.enter_context(held(opening.running_url(settings), [asked.act_id]))
            begun = asyncio.run(begin())
        except Exception as failure:
            if must:
                raise
            console.note(f"this is not recorded in the log: {failure}")
            yield ActUnderWay(asked.act_id, None)
            return
        try:
            yield begun
        except Exception as error:
            _if_possible(end, error.message if isinstance(error, Failure) else described(error))
            raise
        _if_possible(end, None)


@contextmanager
def noting(
    settings: "Settings", act: "ActName", *, target: str | None = None, reason: str | None
) -> "Iterator[ActUnderWay]":
    """As `acting`, for a body that changes nothing: recorded only with a reason."""
    from commands.acts import ActUnderWay
    from kit.uuid7 import uuid7

    if reason is None:
        yield ActUnderWay(uuid7(), None)
        return
    with acting(settings, act, target=target, reason=reason_for(reason)) as under_way:
        yield under_way


def _if_possible(
    end: Callable[[str | None], Coroutine[None, None, None]], error: str | None
) -> None:
    """An act that is done stays done, even if the log no longer takes its end."""
    try:
        asyncio.run(end(error))
    except Exception as failure:
        console.note(f"how this ended is not in the log: {failure}")
