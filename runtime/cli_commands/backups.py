"""`ludoteca backup` and `ludoteca restore`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli_commands import acting, opening
from runtime.cli_commands.opening import Json
from runtime.output import console

if TYPE_CHECKING:
    from runtime.backup.manifest import Manifest
    from runtime.settings import Settings


def backup(
    folder: Annotated[
        Path,
        typer.Argument(
            parser=opening.named_path, metavar="FOLDER", help="The folder to create for the backup."
        ),
    ],
    since: Annotated[
        Path | None,
        typer.Option(
            "--since",
            parser=opening.named_path,
            metavar="FOLDER",
            help="An earlier backup: leave out the events and images that it has.",
        ),
    ] = None,
    reason: acting.Reason = None,
    json: Json = False,
) -> None:
    """Back up the shop into a new folder, as of one moment. The shop can keep running.

    The folder gets `events.jsonl.gz` (an archive as by `ludoteca log export`, the chain of which is
    verified), `log.dump` (state of consumers, work queues), `keys.dump` (persons' keys and
    secrets), `images.tar` if images are files, `manifest.json`, and from LUDOTECA_HOME the master
    key if it is there, the first administrator's password, and the books of the simulated payment
    provider and fiscal operator. Store `keys.dump`, `master.key` and `admin-password.txt` apart
    from the rest, in which nobody can read personal data without the keys. Read models are not
    backed up: they are rebuilt from the events.

    With --since, a restore needs that earlier backup, too, and those that it continues.

    [bold]Examples[/bold]
      ludoteca backup /backups/sunday
      ludoteca backup /backups/monday --since /backups/sunday
    """
    from runtime.backup.making import backup as write

    settings, why = opening.quiet_settings(), acting.reason_for(reason)
    with opening.database(settings) as url:
        opening.require_this_release(url)
        with console.progress() as progress:
            images = _images(settings)
            manifest = write(url, folder, images, progress, home=settings.home, since=since)
        # afterwards: a backup is of the shop as it was when it was asked for
        with acting.acting(
            settings, "backup.make", target=str(folder), reason=why, must=False
        ) as act:
            act.affected = manifest.position - manifest.after
    with console.reporting():
        _print(manifest, folder, json=json)


def _moment(text: str) -> int | datetime:
    """A position, or a time (UTC unless it says otherwise)."""
    if text.isdecimal():
        return int(text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a position nor a time such as 2026-11-28T12:30",
            param_hint="--until",
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def restore(
    folders: Annotated[
        list[Path],
        typer.Argument(
            parser=opening.named_path,
            metavar="FOLDER...",
            help="The backup of all events, and those that continue it, each the one before.",
        ),
    ],
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="WHEN",
            help="Nothing that was recorded after this position, or this time (UTC).",
        ),
    ] = None,
    without_keys: Annotated[
        bool,
        typer.Option(
            "--without-keys",
            help="Leave out persons' keys and secrets: all personal data is then lost for good.",
        ),
    ] = False,
    only_check: Annotated[
        bool,
        typer.Option(
            "--check", help="Restore nothing, use no database: only tell whether it could be done."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Restore backups into a database whose log is empty, completely or not at all. Stop the shop
    first.

    Every file and event is checked. Reactors, the relay and the work queues continue where they
    were, so nothing is paid, sent or published twice. Read models are rebuilt at the next start,
    and answer when they are complete. Existing books of a simulator in LUDOTECA_HOME are kept.

    With --until, a moment after the first backup, consumers continue from where they were at the
    last backup before it. Who has been forgotten by the time of the last one stays forgotten.

    [bold]Examples[/bold]
      LUDOTECA_HOME=/srv/new-shop ludoteca restore /backups/sunday
      ludoteca restore /backups/sunday /backups/monday --until 2026-11-30T12:30
      ludoteca restore --check /backups/sunday /backups/monday
    """
    from runtime.archive.reading import checkers, usual_count
    from runtime.backup.manifest import EVENTS
    from runtime.backup.restoring import check
    from runtime.backup.restoring import restore as fill
    from runtime.wiring.codec import codec

    moment = None if until is None else _moment(until)
    archives = [path for folder in folders if (path := folder / EVENTS).is_file()]
    with checkers(usual_count(archives)) as workers, console.progress() as progress:
        if only_check:
            manifest = check(folders, workers, progress)
        else:
            settings = opening.quiet_settings()
            with opening.database(settings, new=True) as url:
                restored = fill(
                    url,
                    folders,
                    _images(settings),
                    codec().kinds,
                    workers,
                    progress,
                    home=settings.home,
                    without_keys=without_keys,
                    until=moment,
                )
    with console.reporting():
        if only_check and json:
            console.print_json(manifest)
        elif only_check:
            console.say(f"intact: {manifest.position:,} events, up to {manifest.made_at:%F %T} UTC")
        elif json:
            console.print_json(restored)
        else:
            console.say(
                f"restored: {restored.position:,} events; everything else as of"
                f" {restored.made_at:%F %T} UTC"
            )


def _images(settings: "Settings") -> Path | None:
    """The folder of the images, unless they are stored elsewhere."""
    return None if settings.images_url else settings.home / "images"


def _print(manifest: "Manifest", folder: Path, *, json: bool) -> None:
    if json:
        console.print_json(manifest)
        return
    size = sum(file.bytes for file in manifest.files.values())
    console.say(
        f"backed up: {manifest.position - manifest.after:,} events, up to position"
        f" {manifest.position}, {size:,} bytes, of {manifest.made_at:%F %T} UTC, in {folder}"
    )
