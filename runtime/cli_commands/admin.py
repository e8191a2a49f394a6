"""`ludoteca admin`: accounts that only the operator can create."""

import asyncio
import sys
from typing import Annotated, Literal

import typer

from runtime.cli_commands import acting, opening
from runtime.cli_commands.opening import Json
from runtime.output import console

app = typer.Typer(
    no_args_is_help=True,
    help="Create accounts that nobody can register: administrators, auditors, services.",
)


@app.callback()
def group() -> None:
    """Makes `admin` a group, although it has only one command so far."""


@app.command()
def create(
    email: Annotated[str, typer.Option(help="E-mail to log in with.")],
    password: Annotated[
        str | None,
        typer.Option(
            envvar="LUDOTECA_NEW_PASSWORD",
            help=(
                "Password of at least 10 characters. Better not given here, where other users can"
                " see it: without this option it is asked for, or read from stdin if that is no"
                " terminal."
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
    """Create an account for an administrator, an auditor or another program.

    An ADMIN can do everything. An AUDITOR reads the log, and with as_of every query, whomever it is
    about, but no personal data; and may rebuild, pause and resume projections, have what is in
    quarantine tried again, and redrive dead letters. A SERVICE is another program, such as a
    warehouse's. Asks for the password unless it is given or piped in. Exit code 1 if the e-mail
    already has an account, 2 if the e-mail, name or password is invalid.

    [bold]Examples[/bold]
      ludoteca admin create --email ana@example.org
      ludoteca admin create --email audit@example.org --type AUDITOR --name Q3 < password.txt
    """
    settings = opening.quiet_settings()
    opening.running_url(settings)  # fail before asking for a password
    chosen = _password(password)

    async def main() -> str:
        async with opening.core(settings) as core:
            landed = await core.commands.accounts.register(
                acting.operator(),
                email=email,
                password=chosen,
                name=name,
                account_type=account_type,
            )
            return str(landed.value.user_id)

    user_id = asyncio.run(main())
    with console.reporting():
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
