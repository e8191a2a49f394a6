"""The program `ludoteca`: it runs the shop's processes, and has the operators' commands."""

import sys
from inspect import getdoc
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from runtime.cli_commands import (
    admin,
    alerts,
    amendments,
    audit,
    backups,
    dlq,
    event_shapes,
    events,
    keys,
    load,
    log,
    log_copy,
    payments,
    processes,
    projections,
    quarantine,
    receipts,
    settings,
    sql,
    tracing,
    what_if,
)
from runtime.cli_commands.failures import explain
from runtime.host.environment import prepare_process
from runtime.output.console import Code, flush_or_discard, note

_EPILOG = """
[bold]Exit codes[/bold]

0  all is well

1  a check failed: something differs, is broken, was refused or does not exist

2  wrong usage: an unknown option or name, an invalid setting

3  nothing is running, or a required service cannot be reached

130  stopped by Ctrl-C

Commands use the instance in LUDOTECA_HOME, or the database of LUDOTECA_DATABASE_URL.

`ludoteca settings` lists all settings.
"""


class Root(TyperGroup):
    """The root command. It turns expected errors into a message and an exit code; only bugs show a
    traceback."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Run the requested command."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            raise typer.Exit(Code.BROKEN_PIPE) from None
        except (KeyboardInterrupt, typer.Abort):
            raise typer.Exit(Code.INTERRUPTED) from None
        except Exception as error:
            failure = explain(error)
            if failure is None:
                raise
            note(failure.message)
            raise typer.Exit(failure.code) from error
        return result

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line. Output before there is a command (help, version, a usage error) may
        fail to be written, too; the exit code still reports a usage error."""
        try:
            return self._main_to_the_last_line(*args, **kwargs)
        except (OSError, SystemExit) as end:
            if (code := _exit_code_of_lost_output(end)) is not None:
                sys.exit(code)
            if isinstance(end, SystemExit):
                raise
            failure = explain(end)
            assert failure is not None
            note(failure.message)
            sys.exit(failure.code)
        finally:
            flush_or_discard(sys.stdout)
            flush_or_discard(sys.stderr)

    def _main_to_the_last_line(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except SystemExit as end:
            if not end.code:
                sys.stdout.flush()
            raise


def _exit_code_of_lost_output(end: BaseException | None) -> int | None:
    """The exit code when output could not be written: that of the usage error to be reported, or
    the one for a reader that has gone. None if the output itself is the problem, or nothing was
    lost."""
    readers_gone = False
    while end is not None:
        if isinstance(end, typer.Exit):  # raised by a command, which knew the cause
            break
        if isinstance(code := getattr(end, "exit_code", None), int):
            return code
        readers_gone |= isinstance(end, BrokenPipeError)
        end = end.__context__
    return Code.BROKEN_PIPE if readers_gone else None


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(version("ludoteca"))
        raise typer.Exit


def _let_help_wrap(group: typer.Typer) -> None:
    """Join the lines of each paragraph in the commands' help, which typer would keep as they are in
    the docstring. The examples at the end keep theirs."""
    for command in group.registered_commands:
        text, example, examples = (getdoc(command.callback) or "").partition("[bold]Example")
        prose = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
        command.help = "\n\n".join(prose) + example + examples
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            _let_help_wrap(inner.typer_instance)


app = typer.Typer(
    cls=Root,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = (False),
) -> None:
    """An event-sourced game shop: run it, look after it, inspect its log.

    [dim]First time:[/dim]  ludoteca run
    """


RUN, TEND, FILL = "Run", "Look after what runs", "Set up and fill"

app.command(rich_help_panel=RUN)(processes.run)
for command in (
    processes.api,
    processes.projector,
    processes.worker,
    processes.provider,
    processes.fiscal,
    processes.carrier,
    processes.relay,
    processes.mirror,
):
    app.command(rich_help_panel=RUN)(command)
app.add_typer(projections.app, name="projections", rich_help_panel=TEND)
quarantine.app.command()(amendments.show)
quarantine.app.command()(amendments.skip)
quarantine.app.command()(amendments.amend)
quarantine.app.command()(amendments.withdraw)
quarantine.app.command()(amendments.amendments)
app.add_typer(quarantine.app, name="quarantine", rich_help_panel=TEND)
app.add_typer(alerts.app, name="alerts", rich_help_panel=TEND)
app.add_typer(dlq.app, name="dlq", rich_help_panel=TEND)
app.add_typer(payments.app, name="payments", rich_help_panel=TEND)
app.add_typer(receipts.app, name="receipts", rich_help_panel=TEND)
events.app.command("check")(event_shapes.check)
events.app.command("catalog")(event_shapes.catalog)
app.add_typer(events.app, name="events", rich_help_panel=TEND)
log.app.command("copy")(log_copy.copy)
app.add_typer(log.app, name="log", rich_help_panel=TEND)
app.add_typer(keys.app, name="keys", rich_help_panel=TEND)
app.add_typer(audit.app, name="audit", rich_help_panel=TEND)
app.command(rich_help_panel=TEND)(tracing.trace)
app.command("whatif", rich_help_panel=TEND)(what_if.what_if)
app.command(rich_help_panel=TEND)(backups.backup)
app.command(rich_help_panel=TEND)(backups.restore)
app.command(rich_help_panel=TEND, context_settings=sql.PASSED_ON)(sql.sql)
app.add_typer(admin.app, name="admin", rich_help_panel=FILL)
app.add_typer(load.app, name="load", rich_help_panel=FILL)
app.command(name="settings", rich_help_panel=FILL)(settings.show)
_let_help_wrap(app)


def main() -> None:
    """The entry point of the `ludoteca` command."""
    prepare_process()
    app(prog_name="ludoteca")


if __name__ == "__main__":
    main()
