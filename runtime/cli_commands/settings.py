"""`ludoteca settings`: what can be set, and what is."""

import difflib
import os
from typing import Annotated

import typer

from runtime import console
from runtime.cli_commands.opening import Json

_NOT_SETTINGS = ("LUDOTECA_NEW_PASSWORD", "LUDOTECA_TEST_")
"""Variables with our prefix that are read elsewhere: by `admin create`, and by the tests."""


def show(
    json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page docs/settings.md.")] = False,
) -> None:
    """List every setting: its variable, its value here, its default and its meaning. Secrets are masked.

    Settings are environment variables. An empty one is as good as none. Where one makes no sense, every command says
    which, and ends with exit code 2.

    [bold]Examples[/bold]
      ludoteca settings
      LUDOTECA_PORT=8080 ludoteca settings --json
      ludoteca settings --markdown > docs/settings.md
    """
    from runtime.settings import Settings, rows

    found = rows(Settings())
    if markdown:
        console.say(_markdown([(variable, default, meaning) for variable, _, default, meaning in found]))
    elif json:
        names = ("variable", "value", "default", "meaning")
        console.print_json([dict(zip(names, row, strict=True)) for row in found])
    else:
        console.table(("variable", "value", "default", "meaning"), found)
    for variable in _misspelt({row[0] for row in found}):
        meant = difflib.get_close_matches(variable, [row[0] for row in found], n=1)
        console.note(f"{variable} is no setting" + (f" (did you mean {meant[0]}?)" if meant else ""))


def _misspelt(known: set[str]) -> list[str]:
    return sorted(
        name
        for name in os.environ
        if name.startswith("LUDOTECA_") and name.upper() not in known and not name.startswith(_NOT_SETTINGS)
    )


def _markdown(settings: list[tuple[str, str, str]]) -> str:
    lines = [
        "# Settings",
        "",
        "Environment variables; an empty one is as good as none. `ludoteca settings` shows what is set.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for variable, default, meaning in settings:
        shown = f"`{default}`" if default else "–"
        lines.append(f"| `{variable}` | {shown} | {meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)
