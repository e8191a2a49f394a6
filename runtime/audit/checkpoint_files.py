"""Signed checkpoints as files in HOME/checkpoints, for others to fetch and keep."""

from collections.abc import Iterable
from pathlib import Path

from eventstore.proofs.heads import Head
from runtime.output.files import writing

FOLDER = "checkpoints"


class CheckpointFiles:
    """A file for each checkpoint, named by its size and the beginning of its root; a later writing
    adds the signatures of witnesses."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER

    def write(self, heads: Iterable[Head]) -> None:
        """Write those that are not there as they are. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for head in heads:
            path = self._folder / f"{head.size}-{head.root.hex()[:8]}.txt"
            if not path.exists() or path.read_text(encoding="utf-8") != head.note:
                with writing(path) as file:
                    file.write(head.note.encode())
