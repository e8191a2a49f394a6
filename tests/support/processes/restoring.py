"""Restores backups within the test's process."""

from datetime import datetime
from pathlib import Path

from runtime.archive.reading import Checkers
from runtime.backup import restoring
from runtime.output.console import Progress
from runtime.wiring.codec import codec


def restore(
    url: str,
    folder: Path | list[Path],
    images: Path | None,
    progress: Progress,
    *,
    home: Path | None = None,
    without_keys: bool = False,
    until: int | datetime | None = None,
) -> restoring.Restored:
    """Restore one backup, or several, as the command does."""
    folders = [folder] if isinstance(folder, Path) else folder
    return restoring.restore(
        url,
        folders,
        images,
        codec().kinds,
        Checkers(),
        progress,
        home=home,
        without_keys=without_keys,
        until=until,
    )
