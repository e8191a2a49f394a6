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
            parser=opening.named_path, metavar="FOLDER", help="A new folder for the backup."
        ),
    ],
    json: Json = False,
) -> None:
    """Back up the shop into a new folder, as it is at one moment. It may run meanwhile.

    The folder gets `log.dump` (events, what consumers have done, work queues), `keys.dump`
    (persons' keys and secrets), `images.tar` where images are files, the first administrator's
    password, the books of the simulated payment provider and fiscal operator where they are in
    HOME, and `manifest.json`. Keep `keys.dump` and `admin-password.txt` apart: without keys nobody
    can read personal data in the rest. Read models are not in a backup, they are folded anew.

    [bold]Example[/bold]
      ludoteca backup /backups/shop-2026-11-28
    """
    from runtime.backup import backup as write

    settings = opening.quiet_settings()
    with opening.database(settings) as url, console.progress() as progress:
        opening.require_this_release(url)
        manifest = write(url, folder, _images(settings), progress, home=settings.home)
    with console.telling_what_was_done():
        _print(manifest, folder, "backed up", json=json)


def restore(
    folder: Annotated[
        Path,
        typer.Argument(parser=opening.named_path, metavar="FOLDER", help="The folder of a backup."),
    ],
    without_keys: Annotated[
        bool,
        typer.Option(
            "--without-keys", help="Leave persons' keys and secrets behind: everybody is forgotten."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Make the shop from a backup, in a database that has no log yet: whole, or nothing of it.

    Stop the shop first. Reactors, the relay and the work queues go on where they were: nothing is
    asked, sent or published twice. Read models are folded anew at the next start, and answer when
    they are done. A simulator's books that HOME has already stay as they are.

    [bold]Example[/bold]
      LUDOTECA_HOME=/srv/new-shop ludoteca restore /backups/shop-2026-11-28
    """
    from runtime.backup import restore as fill

    settings = opening.quiet_settings()
    with opening.database(settings, new=True) as url, console.progress() as progress:
        manifest = fill(
            url, folder, _images(settings), progress, home=settings.home, without_keys=without_keys
        )
    with console.telling_what_was_done():
        _print(manifest, folder, "restored", json=json)


def _images(settings: "Settings") -> Path | None:
    """The folder of the images, unless they are elsewhere."""
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
