"""`ludoteca settings`: all settings and their values."""

from typing import Annotated

import typer

from runtime.cli_commands.opening import Json
from runtime.output import console


def show(
    json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/settings.md.")] = False,
) -> None:
    """List all settings: variable, current value, default and meaning. Secrets are masked.

    Settings are environment variables; an empty one counts as not set. With an invalid value, every
    command names the variable and ends with exit code 2. A variable LUDOTECA_… that is not a
    setting is reported, and ignored.

    [bold]Examples[/bold]
      ludoteca settings
      LUDOTECA_PORT=8080 ludoteca settings --json
      ludoteca settings --markdown > docs/settings.md
    """
    from runtime.settings import Settings
    from runtime.settings.variables import rows, unknown_settings

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
    for line in unknown_settings().values():
        console.note(line)


def _markdown(settings: list[tuple[str, str, str]]) -> str:
    lines = [
        "# Settings",
        "",
        (
            "Settings are environment variables; an empty one counts as not set. `ludoteca"
            " settings` shows the current values."
        ),
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for variable, default, meaning in settings:
        shown = f"`{default}`" if default else "–"
        lines.append(f"| `{variable}` | {shown} | {meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)
