"""`ludoteca settings`: what can be set, and what is."""

from typing import Annotated

import typer

from runtime import console
from runtime.cli_commands.opening import Json


def show(
    json: Json = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the page docs/settings.md.")
    ] = False,
) -> None:
    """List every setting: its variable, its value here, its default and its meaning. Secrets are
    masked.

    Settings are environment variables. An empty one is as good as none. Where one makes no sense,
    every command says which, and ends with exit code 2. Of a variable LUDOTECA_… that is no
    setting, it says so and goes on.

    [bold]Examples[/bold]
      ludoteca settings
      LUDOTECA_PORT=8080 ludoteca settings --json
      ludoteca settings --markdown > docs/settings.md
    """
    from runtime.settings import Settings
    from runtime.variables import misspelt, rows

    found = rows(Settings())
    if markdown:
        console.say(
            _markdown([(variable, default, meaning) for variable, _, default, meaning in found])
        )
    elif json:
        names = ("variable", "value", "default", "meaning")
        console.print_json([dict(zip(names, row, strict=True)) for row in found])
    else:
        console.table(("variable", "value", "default", "meaning"), found)
    for line in misspelt().values():
        console.note(line)


def _markdown(settings: list[tuple[str, str, str]]) -> str:
    lines = [
        "# Settings",
        "",
        (
            "Environment variables; an empty one is as good as none. `ludoteca settings` shows what"
            " is set."
        ),
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for variable, default, meaning in settings:
        shown = f"`{default}`" if default else "–"
        lines.append(f"| `{variable}` | {shown} | {meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)
