"""`ludoteca admin`: accounts that only the operator makes."""

import asyncio
import sys
from typing import Annotated, Literal

import typer

from runtime import console
from runtime.cli_commands import opening
from runtime.cli_commands.opening import Json

app = typer.Typer(no_args_is_help=True, help="Accounts that nobody can open by themselves.")


@app.callback()
def group() -> None:
    """A group, although it has one command so far."""


@app.command()
def create(
    email: Annotated[str, typer.Option(help="E-mail to log in with.")],
    password: Annotated[
        str | None,
        typer.Option(
            envvar="LUDOTECA_NEW_PASSWORD",
            help=(
                "Password, 10 characters at least. Better not given here, where other users see it:"
                " it is asked for,"
                " or read from stdin where that is no terminal."
            ),
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the person or service.")] = "Administrator",
    account_type: Annotated[
        Literal["ADMIN", "AUDITOR", "SERVICE"],
        typer.Option("--type", help="What the account may do."),
    ] = "ADMIN",
    json: Json = False,
) -> None:
    """Make an account for an administrator, an auditor or another program.

    An ADMIN may do everything; an AUDITOR reads everything, and sees to projections, quarantine and
    dead letters; a SERVICE does what other programs need. Exit code 1 when the e-mail has an
    account already, 2 when e-mail, name or password will not do.

    [bold]Examples[/bold]
      ludoteca admin create --email ana@example.org
      ludoteca admin create --email audit@example.org --type AUDITOR --name 'Q3 audit' <
      password.txt
    """
    from commands.caller import SYSTEM

    settings = opening.quiet_settings()
    opening.running_url(settings)  # before a password is asked for
    chosen = _password(password)

    async def main() -> str:
        async with opening.core(settings) as core:
            landed = await core.commands.accounts.register(
                SYSTEM, email=email, password=chosen, name=name, account_type=account_type
            )
            return str(landed.value.user_id)

    user_id = asyncio.run(main())
    with console.telling_what_was_done():
        if json:
            console.print_json({"id": user_id, "email": email, "account_type": account_type})
        else:
            console.say(f"{account_type} {email} is {user_id}")


def _password(given: str | None) -> str:
    if given is not None:
        return given
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")
