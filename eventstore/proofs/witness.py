"""A witness: somebody else who holds the log's signed checkpoints. The interface for adapters."""

from collections.abc import Sequence
from typing import Protocol


class WitnessAway(Exception):
    """The witness does not answer, or answers what nobody expects. Worth another try."""


class WitnessRefused(Exception):
    """The witness does not take the checkpoint. The message says why."""


class OtherSize(Exception):
    """The witness has a checkpoint of another size."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the witness has a checkpoint of {size} events")
        self.size = size


class Witness(Protocol):
    """Takes checkpoints."""

    async def add_checkpoint(self, old: int, path: Sequence[str], note: str) -> str:
        """Hand over a checkpoint, with the proof that it continues the one of the size `old`.
        Returns the witness's signature lines, or nothing. Raises OtherSize, WitnessRefused,
        WitnessAway."""
