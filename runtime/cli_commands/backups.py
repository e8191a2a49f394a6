"""`ludoteca backup` and `ludoteca restore`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime import console
from runtime.cli_commands import opening
from runtime.cli_commands.opening import Json

if TYPE_CHECKING:
    from runtime.backup import Manifest
    from runtime.settings import Settings


def backup(
    folder: Annotated[
        Path,
        typer.Argument(
            parser=opening.named_path, metavar="FOLDER", help="The folder to create for the backup."
        ),
    ],
    json: Json = False,
) -> None:
    """Back up the shop into a new folder, as of one moment. The shop can keep running.

    The folder gets `log.dump` (events, state of consumers, work queues), `keys.dump` (persons' keys
    and secrets), `images.tar` if images are files, `manifest.json`, and from LUDOTECA_HOME the
    first administrator's password and the books of the simulated payment provider and fiscal
    operator. Store `keys.dump` and `admin-password.txt` apart from the rest, in which nobody can
    read personal data without the keys. Read models are not backed up: they are rebuilt from the
    events.

    [bold]Example[/bold]
      ludoteca backup /backups/shop-2026-11-28
    """
    from runtime.backup import backup as write

    settings = opening.quiet_settings()
    with opening.database(settings) as url, console.progress() as progress:
        opening.require_this_release(url)
        manifest = write(url, folder, _images(settings), progress, home=settings.home)
    with console.reporting():
        _print(manifest, folder, "backed up", json=json)


def restore(
    folder: Annotated[
        Path,
        typer.Argument(
            parser=opening.named_path, metavar="FOLDER", help="The folder of the backup."
        ),
    ],
    without_keys: Annotated[
        bool,
        typer.Option(
            "--without-keys",
            help="Leave out persons' keys and secrets: all personal data is then lost for good.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Restore a backup into a database whose log is empty, completely or not at all. Stop the shop
    first.

    Reactors, the relay and the work queues continue where they were, so nothing is paid, sent or
    published twice. Read models are rebuilt at the next start, and answer when they are complete.
    Existing books of a simulator in LUDOTECA_HOME are kept.

    [bold]Example[/bold]
      LUDOTECA_HOME=/srv/new-shop ludoteca restore /backups/shop-2026-11-28
    """
    from runtime.backup import restore as fill

    settings = opening.quiet_settings()
    with opening.database(settings, new=True) as url, console.progress() as progress:
        manifest = fill(
            url, folder, _images(settings), progress, home=settings.home, without_keys=without_keys
        )
    with console.reporting():
        _print(manifest, folder, "restored", json=json)


def _images(settings: "Settings") -> Path | None:
    """The folder of the images, unless they are stored elsewhere."""
    return None if settings.images_url else settings.home / "images"


def _print(manifest: "Manifest", folder: Path, done: str, *, json: bool) -> None:
    if json:
        console.print_json(manifest)
        return
    size = sum(file.bytes for file in manifest.files.values())
    console.say(
        f"{done}: {manifest.position:,} events, {size:,} bytes, of {manifest.made_at:%F %T} UTC, in"
        f" {folder}"
    )
